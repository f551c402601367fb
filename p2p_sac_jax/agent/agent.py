"""One deployed peer: acts, learns, tells and listens, on a network that may be away.

The class holds what changes and when; everything that is computed is in ``core``. At
a round, every ``exchange.interval`` steps of the shared clock, ``train`` tells the
others what the agent knows, and the next ``select_action`` listens to them.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.agent.core import AgentState, Step
from p2p_sac_jax.agent.history import PriceHistory, check_history, past_steps
from p2p_sac_jax.agent.latest_messages import MODEL
from p2p_sac_jax.agent.price_memory import P2PPriceMemory
from p2p_sac_jax.agent.progress import OTHERS, Progress, Saved
from p2p_sac_jax.agent.protocol.checks import number, vector, whole
from p2p_sac_jax.agent.protocol.connection import Connection
from p2p_sac_jax.agent.protocol.peer_network import Delivery, Network
from p2p_sac_jax.agent.releases import Releases
from p2p_sac_jax.agent.settings import (
    agent_config,
    choose_environment,
    key_data,
    privacy_accountant,
)
from p2p_sac_jax.agent.storage import load_state, save_state
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.privacy.accountant import UNLIMITED
from p2p_sac_jax.types import Transition


class P2PSACAgent:
    """A Soft Actor-Critic agent that learns together with its peers.

    It lives on one event loop. Nothing that a peer or the network does raises out of
    ``select_action`` or ``train``; what goes wrong is logged and counted.

    ``select_action`` and ``observe`` take turns, one call at a time. ``train`` and
    ``sync`` may run beside them; updates then come of the step before. ``load`` runs
    alone.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        config: TrainConfig,
        price_history: PriceHistory | None = None,
        network: Network | None = None,
        local_weight: float | None = None,
        network_weight: float | None = None,
        sync_interval: float = 60.0,
        *,
        params: Any = None,
        environment: Environment | None = None,
        seed: int | None = None,
        peer_id: int | None = None,
        start_clock: int | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        """Makes an agent; the network is not touched before the first action.

        Make it before the network connects: what arrives earlier has no listener.

        Args:
          state_dim: D, size of an observation.
          action_dim: A.
          config: as for training, simulated faults and attacks left out. Noise of the
            modes that have any is made for ``steps``; after them the agent is silent.
          price_history: past weeks of this store, which count as its own steps.
          network: None is an agent alone.
          local_weight: of own knowledge; by default ``exchange.local_weight``.
          network_weight: of the network's; by default ``exchange.network_weight``.
          sync_interval: seconds between pulls of what was missed.
          params: of the environment; by default those of peer ``peer_id`` of the
            population that ``config`` names.
          environment: cells and demand; by default the one that ``config`` names where
            its sizes are ``state_dim`` and ``action_dim``, else one that knows neither.
          seed: of all draws, with ``peer_id``, as in the simulation. By default the
            operating system draws the key: noise that others can compute hides nothing.
          peer_id: by default the number in the roster.
          start_clock: step of the shared clock; by default the weeks of the history.
          folder: where ``save`` and ``load`` go by default. Modes with noise need it
            in a network, to never use noise twice.

        Raises:
          ConfigError: anything of this cannot be, on one line.
        """
        environment = choose_environment(
            state_dim, action_dim, config.environment, environment
        )
        config = agent_config(config, environment, local_weight, network_weight)
        weeks = check_history(price_history, environment)
        clock = weeks if start_clock is None else start_clock
        whole("start_clock", clock, least=weeks)
        self._connection = Connection(
            network, float(number("sync_interval", sync_interval, least=0.0))
        )
        self.network = network
        self.price_memory = P2PPriceMemory(
            None,
            network,
            config,
            environment=environment,
            params=params,
            peer_id=peer_id,
        )
        agent_setup = self.price_memory.agent_setup
        self._core, self._agent_params, self._peers = (
            agent_setup.core,
            agent_setup.agent_params,
            agent_setup.peers,
        )
        self._interval = config.exchange.interval
        self._folder = None if folder is None else Path(folder)
        listened_to = len(agent_setup.peers) > 1 and config.exchange.network_weight > 0
        accountant = privacy_accountant(self._core.components)
        self._releases = Releases(config, accountant, self._folder, listened_to)
        self._training = asyncio.Lock()
        own = agent_setup.peers.index(agent_setup.name) if peer_id is None else peer_id
        first = np.int32(clock - weeks)
        self._agent_state = self._core.start(
            key_data(seed, own), first, self._agent_params
        )
        self._progress = Progress(
            listened=np.array(-1),
            send_result=np.array(-1),
            studied=np.array(0),
            waiting=np.array(False),
            obs=np.zeros(state_dim, np.float32),
        )
        if price_history is not None and weeks:
            for step in past_steps(
                price_history, environment, self._agent_params.params
            ):
                self._agent_state = self._core.observe(
                    self._agent_state, step, self._agent_params
                )
        self._recount(self._releases.spent)
        self._hand_over()
        if network is not None:
            network.register_message_handler(MODEL, self._handle_model_insight)

    @property
    def clock(self) -> int:
        """Step of the shared clock."""
        return int(self._agent_state.clock)

    @property
    def informed(self) -> bool:
        """Whether the network's word is in what the agent believes of demand."""
        return float(self._agent_state.guidance.has_prior) > 0.0

    @property
    def budget(self) -> dict[str, int | None]:
        """Messages that have left, and how many may; None is no limit."""
        allowed = self._releases.allowed
        return {
            "releases": int(self._agent_state.peer.outbox.releases),
            "allowed": None if allowed >= UNLIMITED else allowed,
        }

    @property
    def round(self) -> int:
        """Number of the round that the clock is in."""
        return self.clock // self._interval

    @property
    def steps(self) -> int:
        """Own real steps so far, weeks of the history included."""
        return int(self._agent_state.peer.steps)

    @property
    def network_errors(self) -> int:
        """Calls to the network, or to the journal of releases, that failed."""
        return self._connection.errors

    def catch_up(self, clock: int) -> None:
        """Moves the clock on to step ``clock`` after a pause; it never goes back."""
        if clock > self.clock:
            self._agent_state = self._agent_state._replace(
                clock=jnp.asarray(clock, jnp.int32)
            )
            self._progress = self._progress._replace(waiting=np.array(False))

    async def select_action(self, state: Any, evaluate: bool = False) -> np.ndarray:
        """The action [A] in [-1, 1] in an observed state.

        Asked again before ``observe``, it answers the same. The first call of a round
        listens to the network. An agent that has lived no longer than a round, in a
        network that is older, rehearses when it first hears of demand, which takes as
        long as some hundred updates.

        Args:
          state: [D].
          evaluate: take the best action known, without exploration; changes nothing.

        Raises:
          ConfigError: the state has another shape or is not finite.
        """
        obs = vector("state", state, self._core.components.environment.observation_dim)
        if evaluate:
            return np.array(
                self._core.greedy(self._agent_state, obs, self._agent_params)
            )
        if self._progress.listened != self.round:
            await self._listen()
        action = self._core.select_action(self._agent_state, obs, self._agent_params)
        self._progress = self._progress._replace(waiting=np.array(True), obs=obs)
        return np.array(action)

    def observe(
        self,
        action: Any,
        reward: float,
        next_state: Any,
        terminated: bool = False,
        log_sales: float | None = None,
    ) -> None:
        """Stores and remembers what came of an action, and moves the clock a step.

        Args:
          action: [A] that was taken in the state of the last ``select_action``.
          reward: of the step.
          next_state: [D] its true successor, even where an episode was cut there.
          terminated: the future is worth nothing.
          log_sales: ln(units / usual units), where the environment sells something.

        Raises:
          ConfigError: a figure cannot be, or no action was chosen.
        """
        components = self._core.components
        sizes = (
            components.environment.observation_dim,
            components.environment.action_dim,
        )
        if not self._progress.waiting:
            raise ConfigError("observe must come after select_action, once for each")
        if log_sales is None and components.world_model is None:
            log_sales = 0.0
        transition = Transition(
            obs=self._progress.obs,
            action=vector("action", action, sizes[1], bound=1.0),
            reward=number("reward", reward),
            next_obs=vector("next_state", next_state, sizes[0]),
            discount=np.float32(not terminated),
        )
        step = Step(transition, number("log_sales", log_sales), kept=np.float32(1.0))
        self._agent_state = self._core.observe(
            self._agent_state, step, self._agent_params
        )
        self._progress = self._progress._replace(
            studied=np.array(0), waiting=np.array(False)
        )
        self._hand_over()

    async def train(self, batch_size: int | None = None) -> dict[str, float]:
        """One step's updates; at a round, tells the network what was learned.

        Args:
          batch_size: rows per update, by default ``sac.batch_size``. Another size
            compiles another program, once.

        Returns:
          Losses and diagnostics of the updates, the network's weights in them, all
          updates so far, and 1 for ``shared`` if a message left at once. Before
          ``sac.learning_starts`` steps nothing is learned.

        Raises:
          ConfigError: the batch size cannot be.
        """
        if batch_size is None:
            batch_size = self._core.components.config.sac.batch_size
        study = self._core.train_step(whole("batch_size", batch_size, least=1))
        agent_state = (
            self._agent_state
        )  # of this call: others move on while it waits and works
        async with self._training:
            latest, nth = self._agent_state.peer, self._progress.studied
            agent_state = _with(
                agent_state, learner=latest.learner, outbox=latest.outbox
            )
            self._progress = self._progress._replace(studied=nth + 1)
            learner, report = await asyncio.to_thread(
                study, agent_state, np.int32(nth), self._agent_params
            )
            self._change(learner=learner)
            now, since = divmod(int(agent_state.clock), self._interval)
            shared = False
            if since == 0 and self._progress.send_result < now:
                shared = await self._share(_with(agent_state, learner=learner), now)
            await self._connection.sync_if_due()
        counts = {"updates": float(learner.updates), "shared": float(shared)}
        return report.numbers() | counts

    async def sync(self) -> int:
        """Pulls what was missed; returns how many messages, 0 if it did not work."""
        return await self._connection.sync()

    def save(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Writes the full state; a kill at any moment leaves the last one whole.

        Args:
          folder: by default that of the agent.

        Raises:
          ConfigError: there is no folder.
          OSError: the disk does not take it; what was there before stays.
        """
        save_state(self._existing(folder), self._saved().arrays(self._peers))

    def load(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Goes on from the last saved state, exactly as if never interrupted.

        If the roster has changed, peers are known again by their names: of who is new
        nothing was heard, and who is gone is forgotten. What was missed meanwhile is
        pulled before the agent listens.

        Args:
          folder: by default that of the agent.

        Raises:
          ConfigError: there is no folder, or it holds no state of such an agent.
        """
        here = self._saved()
        found = load_state(
            self._existing(folder), here.arrays(self._peers), rows=OTHERS
        )
        state = here.restored(found, self._peers)
        self._agent_state = jax.tree.map(jnp.asarray, state.agent_state)
        self._progress = state.progress
        self.price_memory.latest_messages.restore(state.heard)
        self._connection.outdate()
        self._recount(self._releases.spent)
        self._hand_over()

    def _saved(self) -> Saved:
        return Saved(
            self._agent_state, self._progress, self.price_memory.latest_messages.content
        )

    def _existing(self, folder: str | os.PathLike[str] | None) -> Path:
        chosen = self._folder if folder is None else Path(folder)
        if chosen is None:
            raise ConfigError("folder=None must be a folder: the agent has none either")
        return chosen

    async def _listen(self) -> None:
        """What the agent makes of the latest word of every peer, for this round."""
        if self._progress.listened < 0:
            self._connection.outdate()
        await self._connection.sync_if_due()
        self._progress = self._progress._replace(listened=np.array(self.round))
        late = self.steps == 0 or self.steps < min(self._interval + 1, self.clock)
        init_state = late and not self.informed
        heard = await asyncio.to_thread(
            self._core.listen,
            self._agent_state,
            self.price_memory.latest_messages.wires(),
            self._agent_params,
        )
        self._agent_state = self._agent_state._replace(
            guidance=heard.guidance, belief=heard.belief
        )
        self._change(trust=heard.peer.trust, potential=heard.peer.potential)
        if init_state and float(heard.guidance.has_prior) > 0:
            async with self._training:
                pretrain_on_model = self._core.pretrain_on_model
                learner = await asyncio.to_thread(
                    pretrain_on_model, self._agent_state, self._agent_params
                )
                self._change(learner=learner)
        self._hand_over()

    async def _share(self, agent_state: AgentState, now: int) -> bool:
        """The agent's turn to speak in round ``now``; True if a message left."""
        self._progress = self._progress._replace(send_result=np.array(now))
        outbox, wire, sending = await asyncio.to_thread(
            self._core.make_message,
            agent_state,
            np.float32(self._releases.may_send(now)),
            np.int32(self._releases.allowed),
            self._agent_params,
        )
        self._change(outbox=outbox)  # whatever comes of it, the message is spent
        if float(sending) <= 0.0:
            return False
        try:
            self._releases.use(now, int(outbox.releases))
        except OSError as error:
            self._connection.failed("journal of releases", error)
            return False
        return await self._connection.tell(
            self.price_memory.latest_messages.split(wire)
        )

    def _handle_model_insight(self, delivery: Delivery) -> None:
        # Nothing is read before the next round is listened to: what claims to be from
        # later than that is from then.
        passed = (
            self.clock % self._interval > 0 or self._progress.listened == self.round
        )
        latest = (self.round + int(passed)) * self._interval
        seconds = latest * self._core.components.config.environment.seconds_per_step
        refusal = self.price_memory.latest_messages.take(delivery, seconds)
        if refusal is not None:
            self._connection.refuse(delivery.sender, refusal)

    def _change(self, **parts: Any) -> None:
        """Replaces parts of the peer's state; whatever else moved meanwhile stays."""
        self._agent_state = _with(self._agent_state, **parts)

    def _recount(self, spent: int) -> None:
        """Counts at least the messages that are known to have left."""
        outbox = self._agent_state.peer.outbox
        left = jnp.maximum(outbox.releases, jnp.int32(spent))
        self._change(outbox=outbox._replace(releases=left))

    def _hand_over(self) -> None:
        self.price_memory.hold(self._agent_state.peer.memory, self._agent_state.belief)


def _with(agent_state: AgentState, **parts: Any) -> AgentState:
    """Another peer's state in these parts."""
    return agent_state._replace(peer=agent_state.peer._replace(**parts))

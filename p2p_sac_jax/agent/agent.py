"""One deployed peer: acts, trains and exchanges messages over an unreliable network.

The class holds state and order of calls; ``core`` computes. At a round, every
``exchange.interval`` steps of the shared clock, ``train`` sends the agent's message,
and the next ``select_action`` reads the messages of the others.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from p2p_sac_jax.agent.connection import Connection
from p2p_sac_jax.agent.core import AgentState, AgentStep
from p2p_sac_jax.agent.ops.release_log import ReleaseLog
from p2p_sac_jax.agent.ops.state_file import load_state, save_state
from p2p_sac_jax.agent.price_history import PriceHistory, past_steps
from p2p_sac_jax.agent.price_memory import P2PPriceMemory
from p2p_sac_jax.agent.protocol.base import Delivery
from p2p_sac_jax.agent.protocol.payloads import MODEL
from p2p_sac_jax.agent.protocol.peer_network import PeerNetwork
from p2p_sac_jax.agent.real_data import RealData
from p2p_sac_jax.agent.saved_state import OTHERS, Progress, SavedState
from p2p_sac_jax.agent.settings import (
    choose_environment,
    key_data,
    make_agent_setup,
)
from p2p_sac_jax.arguments import LAST_CLOCK, number, whole
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.config_io import replace_fields
from p2p_sac_jax.environments.base import Environment
from p2p_sac_jax.privacy.accountant import UNLIMITED, make_accountant


class P2PSACAgent:
    """A Soft Actor-Critic agent that learns together with its peers.

    It runs on one event loop. Nothing that a peer or the network does raises out of
    ``select_action`` or ``train``; failures are logged and counted in ``connection``.

    ``select_action`` and ``observe`` alternate, one call at a time. ``train`` and
    ``sync`` may run beside them; its updates then belong to the step before. ``load``
    runs alone.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        config: TrainConfig,
        price_history: PriceHistory | None = None,
        network: PeerNetwork | None = None,
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
        """Creates an agent; the network is not used before the first action.

        Create the agent before the network connects: it would miss earlier messages.

        Args:
          state_dim: D, size of an observation.
          action_dim: A.
          config: as for training, without simulated faults and attacks. The noise of a
            mode is drawn in blocks of ``steps`` steps and does not end.
          price_history: past weeks of this store, which count as its own steps.
          network: None is an agent alone.
          local_weight: of own knowledge; by default that of ``config.exchange``.
          network_weight: of the network's, likewise.
          sync_interval: seconds between pulls of missing messages.
          params: of the environment. By default those of the history, or, without one,
            of peer ``peer_id`` of the population of ``config``; () is a store that is
            known by its history alone.
          environment: cells and demand model; by default that of ``config`` if its
            sizes are ``state_dim`` and ``action_dim``, else one without either.
          seed: of all draws, with ``peer_id``, as in the simulation. By default the
            operating system draws the key: predictable noise protects nothing.
          peer_id: by default the number in the roster.
          start_clock: step of the shared clock, below 2^24; by default the weeks of
            the history.
          folder: default folder of ``save`` and ``load``. Modes with noise need it
            in a network, so that no noise is used twice.

        Raises:
          ConfigError: an argument is invalid, or two do not fit together.
        """
        environment = choose_environment(
            state_dim, action_dim, config.environment, environment
        )
        given = {"local_weight": local_weight, "network_weight": network_weight}
        weights = {f"exchange.{k}": x for k, x in given.items() if x is not None}
        config = replace_fields(config, weights)
        setup = make_agent_setup(
            config, environment, network, params, peer_id, price_history
        )
        past = len(setup.weeks.obs)
        clock = past if start_clock is None else start_clock
        whole("start_clock", clock, past, LAST_CLOCK)
        sync_interval = number("sync_interval", sync_interval, low=0.0)
        self.connection = Connection(network, sync_interval)
        self.network = network
        self.price_memory = P2PPriceMemory(None, network, setup=setup)
        config = setup.config
        self._core, self._params, self._peers = setup.core, setup.params, setup.peers
        self._latest = self.price_memory.latest_messages
        self._interval = config.exchange.interval
        self._folder = None if folder is None else Path(folder)
        connected = len(setup.peers) > 1 and config.exchange.network_weight > 0
        accountant = make_accountant(config, self._core.components.mode.releases())
        self._releases = ReleaseLog(config, accountant, self._folder, connected)
        self._training = asyncio.Lock()
        self._state = self._core.init(
            key_data(seed, setup.peer_id), np.int32(clock - past), self._params
        )
        self._progress = Progress(np.zeros(state_dim, np.float32))
        self._data = RealData(self._core.components)
        for step in past_steps(setup.weeks, environment, self._params.environment):
            self._learn(step)
        self._count_releases(self._releases.spent)
        self._update_price_memory()
        if network is not None:
            network.register_message_handler(MODEL, self._handle_model_insight)

    @property
    def clock(self) -> int:
        """Step of the shared clock."""
        return int(self._state.clock)

    @property
    def informed(self) -> bool:
        """Whether the network's messages are in the agent's demand prior."""
        return float(self._state.guidance.has_prior) > 0.0

    @property
    def budget(self) -> dict[str, int | None]:
        """Messages sent, and allowed in all; None is no limit."""
        allowed = self._releases.allowed
        return {
            "releases": int(self._state.peer.send_state.releases),
            "allowed": None if allowed >= UNLIMITED else allowed,
        }

    @property
    def steps(self) -> int:
        """Own real steps so far, weeks of the history included."""
        return int(self._state.peer.steps)

    def set_clock(self, clock: int) -> None:
        """Moves to step ``clock``: on after a pause, back if the clock was ahead."""
        if clock != self.clock:
            self._state = self._state._replace(clock=jnp.asarray(clock, jnp.int32))
            self._progress = self._progress.moved(self._round)

    async def select_action(self, state: Any, evaluate: bool = False) -> np.ndarray:
        """The action [A] in [-1, 1] in an observed state.

        A repeated call before ``observe`` returns the same. The first call of a round
        reads the latest messages. An agent with at most one round of own steps, in a
        network that is older, trains on the model when it first receives a demand
        prior, which takes as long as some hundred updates.

        Args:
          state: [D]. An entry that is missing (NaN) is that of the last state.
          evaluate: return the best known action, without exploration; changes nothing.

        Raises:
          ConfigError: the state has another shape or is no array of numbers.
        """
        obs = self._data.state(self.clock, state, self._progress.obs)
        if evaluate:
            return np.array(self._core.greedy(self._state, obs, self._params))
        if self._progress.exchanged != self._round:
            await self._exchange()
        action = self._core.select_action(self._state, obs, self._params)
        self._progress = self._progress._replace(pending=np.array(True), obs=obs)
        return np.array(action)

    def observe(
        self,
        action: Any,
        reward: float,
        next_state: Any,
        terminated: bool = False,
        log_sales: float | None = None,
    ) -> None:
        """Stores the result of an action, updates the memory and advances the clock.

        Figures beyond the bounds of ``environments.week_figures``, and gaps, are
        logged.

        Args:
          action: [A] really taken in the state of the last ``select_action``. Where
            rules changed the price, that of the price charged (``price_action``).
          reward: of the step. NaN: it is missing, and nothing is learned.
          next_state: [D] its true successor, even where an episode was cut; NaN where
            an entry is missing.
          terminated: the value of the future is 0.
          log_sales: ln(units / usual units), where the environment has a demand model;
            ln 0 where nothing was sold, NaN where it is missing.

        Raises:
          ConfigError: an argument is invalid, or no action was selected.
        """
        if not self._progress.pending:
            raise ConfigError("observe must come after select_action, once for each")
        figures = action, reward, next_state, terminated, log_sales
        self._learn(self._data.step(self.clock, self._progress.obs, *figures))
        self._progress = self._progress._replace(
            train_calls=np.array(0), pending=np.array(False)
        )
        self._update_price_memory()

    def _learn(self, step: AgentStep | None) -> None:
        """Stores a step, or leaves it out; the clock advances."""
        if step is None:
            self._state = self._state._replace(clock=self._state.clock + 1)
        else:
            self._state = self._core.observe(self._state, step, self._params)

    async def train(self, batch_size: int | None = None) -> dict[str, float]:
        """One step's updates; at a round, also sends the agent's message.

        Args:
          batch_size: rows per update, by default ``sac.batch_size``. Another size
            compiles another program, once.

        Returns:
          Losses and diagnostics of the updates, the network's weights in them, all
          updates so far, steps left out or bounded since the start, and 1 for
          ``shared`` if a message left at once. There are no updates before
          ``sac.learning_starts`` steps.

        Raises:
          ConfigError: the batch size is invalid.
        """
        if batch_size is None:
            batch_size = self._core.components.batch_size
        train_step = self._core.train_step(whole("batch_size", batch_size, least=1))
        state = self._state  # of this call: others may replace it meanwhile
        async with self._training:
            latest, call = self._state.peer, self._progress.train_calls
            state = _with(state, learner=latest.learner, send_state=latest.send_state)
            self._progress = self._progress._replace(train_calls=call + 1)
            learner, metrics = await asyncio.to_thread(
                train_step, state, np.int32(call), self._params
            )
            self._change(learner=learner)
            now, since = divmod(int(state.clock), self._interval)
            shared = False
            if since == 0 and self._progress.shared < now:
                shared = await self._share(_with(state, learner=learner), now)
            self.connection.sync_if_due()
        counts = {"updates": float(learner.updates), "shared": float(shared)}
        return metrics.numbers() | counts | self._data.counts

    async def sync(self) -> int:
        """Pulls missing messages; returns how many, 0 after a failure."""
        return await self.connection.sync()

    def compile(self) -> None:
        """Compiles the programs of a week and a round; changes nothing."""
        self._core.compile(self._state, self._latest.messages(), self._params)

    def save(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Writes the full state, by default to the agent's folder.

        A kill at any moment leaves a complete one.

        Raises:
          ConfigError: there is no folder.
          OSError: the write failed; the states before are unchanged.
        """
        save_state(self._existing(folder), self._saved().arrays(self._peers))

    def load(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Continues from the last saved state, exactly as if never interrupted.

        If the roster has changed, peers are matched by name: new peers start without
        messages, removed peers are dropped. Missing messages are pulled before the
        next exchange. The folder is by default that of the agent.

        Raises:
          ConfigError: there is no folder, or no state of such an agent in it.
        """
        here = self._saved()
        found = load_state(
            self._existing(folder), here.arrays(self._peers), rows=OTHERS
        )
        saved = here.restored(found, self._peers)
        self._state = jax.tree.map(jnp.asarray, saved.agent_state)
        self._progress = saved.progress
        self._latest.restore(saved.messages)
        self.connection.expire()
        self._count_releases(self._releases.spent)
        self._update_price_memory()

    @property
    def _round(self) -> int:
        return self.clock // self._interval

    def _saved(self) -> SavedState:
        return SavedState(self._state, self._progress, self._latest.content)

    def _existing(self, folder: str | os.PathLike[str] | None) -> Path:
        folder = self._folder if folder is None else folder
        if folder is None:
            raise ConfigError("folder=None must be a folder: the agent has none either")
        return Path(folder)

    async def _exchange(self) -> None:
        """Computes this round's guidance from the latest message of every peer."""
        await self.connection.before_exchange()
        self._progress = self._progress._replace(exchanged=np.array(self._round))
        late = self.steps == 0 or self.steps < min(self._interval + 1, self.clock)
        first = late and not self.informed
        after = await asyncio.to_thread(
            self._core.exchange, self._state, self._latest.messages(), self._params
        )
        self._state = self._state._replace(guidance=after.guidance, belief=after.belief)
        self._change(trust=after.peer.trust, potential=after.peer.potential)
        if first and self.informed:
            async with self._training:
                learner = await asyncio.to_thread(
                    self._core.pretrain_on_model, self._state, self._params
                )
                self._change(learner=learner)
        self._update_price_memory()

    async def _share(self, state: AgentState, now: int) -> bool:
        """Sends the agent's message of round ``now``; True if it left at once."""
        self._progress = self._progress._replace(shared=np.array(now))
        send_state, message, sending = await asyncio.to_thread(
            self._core.make_message,
            state,
            np.float32(self._releases.may_send(now)),
            np.int32(self._releases.allowed),
            self._params,
        )
        self._change(send_state=send_state)  # the release counts even if sending fails
        if float(sending) <= 0.0:
            return False
        try:
            self._releases.record(now, int(send_state.releases))
        except OSError as error:
            self.connection.failed("release log", error)
            return False
        return await self.connection.send(self._latest.split(message))

    def _handle_model_insight(self, delivery: Delivery) -> None:
        # Messages are read at the next exchange: a later time counts as that time.
        passed = (
            self.clock % self._interval > 0 or self._progress.exchanged == self._round
        )
        latest = (self._round + int(passed)) * self._interval
        seconds = latest * self._core.components.seconds_per_step
        refusal = self._latest.take(delivery, seconds)
        if refusal is not None:
            self.connection.refuse(delivery.sender, refusal)

    def _change(self, **parts: Any) -> None:
        """Replaces parts of the peer's state; concurrent changes of others stay."""
        self._state = _with(self._state, **parts)

    def _count_releases(self, spent: int) -> None:
        """Counts at least the messages that are recorded as sent."""
        send_state = self._state.peer.send_state
        releases = jnp.maximum(send_state.releases, jnp.int32(spent))
        self._change(send_state=send_state._replace(releases=releases))

    def _update_price_memory(self) -> None:
        self.price_memory.hold(self._state.peer.memory, self._state.belief)


def _with(state: AgentState, **parts: Any) -> AgentState:
    """The state with other parts of the peer's state."""
    return state._replace(peer=state.peer._replace(**parts))

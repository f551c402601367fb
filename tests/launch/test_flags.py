"""The command line's edge: overrides, one-line errors, exit status, no JAX."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags as absl_flags

from p2p_sac_jax import config_io
from p2p_sac_jax.commands import flags
from p2p_sac_jax.config import ConfigError

ROOT = Path(__file__).parents[2]
PRICING = f"--config={ROOT / 'configs' / 'pricing.py'}"

PROGRAM = """
import sys
from p2p_sac_jax.commands import flags

flags.define_config()

def main(argv):
    loaded = "jax" in sys.modules
    config = flags.get_train_config()
    from jax._src import xla_bridge
    print(config.sac.tau, loaded, xla_bridge.backends_are_initialized())
    return 3

flags.run(main)
"""


@pytest.fixture
def parse(monkeypatch):
    """Parses arguments into flags of their own and returns the configuration."""

    def parse(*arguments, workdir=""):
        argv = ["program", *arguments]
        monkeypatch.setattr(sys, "argv", argv)  # config_flags finds overrides there
        values = absl_flags.FlagValues()
        flags.define_config(values)
        absl_flags.DEFINE_string("workdir", "", "folder", flag_values=values)
        flags.parse(argv, values)
        return flags.get_train_config(workdir, values)

    return parse


def run_program(*arguments):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_overrides_reach_the_configuration(parse):
    config = parse(
        PRICING,
        "--config.sac.tau=1e-3",
        "--config.sac.discount=0",
        "--config.population.held_out=true",
        "--config.steps",
        "52",
        "--config.arms=network",
    )
    assert (config.sac.tau, config.sac.discount) == (1e-3, 0.0)
    assert config.population.held_out is True
    assert (config.steps, config.arms) == (52, "network")
    assert config.exchange.recency_tau_s == 26 * 7 * 86_400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [PRICING, "--config.sac.tua=.1"],
            "unknown flag --config.sac.tua; did you mean --config.sac.tau?",
        ),
        (
            [PRICING, "--config.tau=.1"],
            "unknown flag --config.tau; did you mean --config.sac.tau?",
        ),
        ([PRICING, "--config.qwerty=.1"], "unknown flag --config.qwerty"),
        (
            [PRICING, "--workdri=x"],
            "unknown flag --workdri; did you mean --workdir?",
        ),
        ([PRICING, "--config.steps=1.5"], "--config.steps=1.5 must be of type int"),
        ([PRICING, "--config.sac.tau=x"], "--config.sac.tau=x must be of type float"),
        (
            [PRICING, "--config.population.held_out=perhaps"],
            "--config.population.held_out=perhaps must be of type bool",
        ),
        ([PRICING, "--config.sac.tau=2"], "sac.tau=2.0 must be in (0, 1]"),
        (
            [PRICING, "--config.exploration={}"],
            "--config.exploration is a section; set one of exploration.bonus, "
            "exploration.source, exploration.std_max, exploration.std_min",
        ),
        ([], "--config is missing; for example --config=configs/pricing.py"),
        (
            ["--config.sac.tau=.1"],
            "--config.sac.tau needs --config=configs/pricing.py or another file "
            "before it",
        ),
        (
            [PRICING.replace("pricing", "prcing")],
            f"{PRICING.replace('pricing', 'prcing')} is not a file; "
            f"did you mean {PRICING.removeprefix('--config=')}?",
        ),
    ],
)
def test_user_errors_are_one_helpful_line(parse, arguments, message):
    with pytest.raises(ConfigError) as error:
        parse(*arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def get_config(): return 1 / 0", "ZeroDivisionError: division by zero"),
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "get_config"),
        ("def get_config(): return 3", "to_dict"),
    ],
)
def test_a_broken_file_is_named_with_its_reason(parse, tmp_path, text, reason):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        parse(f"--config={path}")
    assert str(error.value).startswith(f"--config={path} does not load: ")
    assert reason in str(error.value)


def test_an_unknown_field_in_a_file_is_named(parse, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from configs import pricing\n"
        "def get_config():\n"
        "    config = pricing.get_config()\n"
        "    config.sac.tua = 0.1\n"
        "    return config\n"
    )
    with pytest.raises(ConfigError, match=r"unknown field sac.tua; did you mean"):
        parse(f"--config={path}")


def test_a_run_goes_on_with_its_saved_configuration(parse, tmp_path):
    first = parse(PRICING, "--config.seed=7")
    run = {"config": config_io.to_dict(first)}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert parse(workdir=tmp_path) == first
    assert parse(PRICING, workdir=tmp_path).seed == 0


def test_main_decides_the_exit_status_and_jax_waits():
    done = run_program("--config=configs/pricing.py", "--config.sac.tau=.5")
    assert (done.stdout, done.stderr, done.returncode) == ("0.5 False False\n", "", 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config=configs/pricing.py", "--config.sac.tua=.1"],  # told by the parser
        ["--config=configs/pricing.py", "--config.sac.tau=7"],  # told inside main
        ["--config=configs/pricing.py", "word"],
    ],
)
def test_user_errors_leave_with_status_2_and_one_line(arguments):
    done = run_program(*arguments)
    assert done.returncode == flags.USER_ERROR
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_help_is_a_success():
    done = run_program("--help")
    assert done.returncode == 0
    assert "--config.FIELD=VALUE" in done.stdout

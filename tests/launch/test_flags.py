"""The command line's edge: overrides, one-line errors, exit status, no JAX."""

import importlib
import json
import subprocess
import sys

import pytest

from p2p_sac_jax import config_io
from p2p_sac_jax.commands import flags, presets
from p2p_sac_jax.config import ConfigError, TrainConfig
from p2p_sac_jax.fields import fields_of
from tests.helpers.commands import ROOT

PROGRAMS = "ablate", "calibrate", "make_identity", "report", "run_peer", "train"
PRICING = f"--config={ROOT / 'configs' / 'pricing.py'}"

PROGRAM = """
import sys
from p2p_sac_jax.commands.flags import Program

PROGRAM = Program("What it does.", config=True)

@PROGRAM.main
def main():
    loaded = "jax" in sys.modules
    config = PROGRAM.get_config()
    if config.seed == 9:
        raise KeyboardInterrupt
    from jax._src import xla_bridge
    print(config.sac.tau, loaded, xla_bridge.backends_are_initialized())
    return 3

main()
"""


def parse(*arguments, workdir=""):
    """The configuration of a program with these arguments."""
    program = flags.Program("", config=True)
    program.path("workdir", "", "folder")
    program.parse(["program", *arguments])
    return program.get_config(workdir)


def run(*command):
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )


def run_program(*arguments):
    return run(sys.executable, "-c", PROGRAM, *arguments)


def test_overrides_reach_the_configuration():
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
        ([], "--config is missing; for example --config=pricing"),
        (
            ["--config.sac.tau=.1"],
            "--config.sac.tau needs --config=pricing as well",
        ),
    ],
)
def test_user_errors_are_one_helpful_line(arguments, message):
    with pytest.raises(ConfigError) as error:
        parse(*arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def get_config(): return 1 / 0", "ZeroDivisionError: division by zero"),
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "get_config"),
        ("def get_config(): return 3", "returns no ConfigDict but 3"),
    ],
)
def test_a_broken_file_is_named_with_its_reason(tmp_path, text, reason):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        parse(f"--config={path}")
    assert str(error.value).startswith(f"--config={path} does not load: ")
    assert reason in str(error.value)


def test_an_unknown_field_in_a_file_is_named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from p2p_sac_jax.configs import pricing\n"
        "def get_config():\n"
        "    config = pricing.get_config()\n"
        "    config.sac.tua = 0.1\n"
        "    return config\n"
    )
    with pytest.raises(ConfigError, match=r"unknown field sac.tua; did you mean"):
        parse(f"--config={path}")


def test_a_run_goes_on_with_its_saved_configuration(tmp_path):
    first = parse(PRICING, "--config.seed=7")
    run = {"config": config_io.to_dict(first)}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert parse(workdir=tmp_path) == first
    assert parse(PRICING, workdir=tmp_path).seed == 0


@pytest.mark.parametrize("name", ["smoke", "configs/smoke.py", "./configs/smoke.py"])
def test_presets_are_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT if name.startswith(".") else tmp_path)
    assert parse(f"--config={name}").steps == 24


def test_an_unknown_preset_is_told_what_there_is():
    with pytest.raises(ConfigError) as error:
        parse("--config=prcing")
    start, _, listed = str(error.value).partition("; presets: ")
    assert start.endswith("neither a file nor a preset; did you mean pricing?")
    assert {"pricing", "smoke", "ablations/headline"} <= {*listed.split(", ")}
    assert "arms" not in listed
    with pytest.raises(ConfigError, match=r"did you mean .*configs/pricing\.py\?"):
        parse(PRICING.replace("pricing", "prcing"))


@pytest.mark.parametrize("name", presets.preset_names())
def test_every_preset_can_run(name):
    config = parse(f"--config={name}")
    assert config.steps > 0


def test_main_decides_the_exit_status_and_jax_waits():
    done = run_program("--config=configs/pricing.py", "--config.sac.tau=.5")
    assert (done.stdout, done.stderr, done.returncode) == ("0.5 False False\n", "", 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config=configs/pricing.py", "--config.sac.tua=.1"],  # by the parser
        ["--config=configs/pricing.py", "--config.sac.tau=7"],  # inside main
        ["--config=pricing", "word"],
    ],
)
def test_user_errors_leave_with_status_2_and_one_line(arguments):
    done = run_program(*arguments)
    assert done.returncode == flags.USER_ERROR
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_an_interrupt_leaves_with_status_130():
    done = run_program("--config=pricing", "--config.seed=9")
    assert (done.returncode, done.stderr) == (130, "SIGINT: interrupted\n")


def test_help_is_a_success():
    done = run_program("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("What it does.\n")
    assert "--config.FIELD=VALUE" in done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_explains_itself_within_a_screen(name, capsys):
    module = importlib.import_module(f"p2p_sac_jax.commands.{name}")
    with pytest.raises(SystemExit) as left:
        module.main([name, "--help"])
    assert left.value.code in (None, 0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 45
    assert f"    p2p-sac-{name.replace('_', '-')} " in "\n".join(lines)


def test_the_long_help_describes_every_field(capsys):
    program = flags.Program("What it does.", config=True)
    with pytest.raises(SystemExit):
        program.main(lambda: None)(["program", "--helpfull"])
    page = " ".join(capsys.readouterr().out.split())
    for field in fields_of(TrainConfig):
        assert f" {field.name}={field.default} {field.description} (" in page
    assert "(float in (0, 1], traced)" in page


def test_a_program_ends_quietly_when_its_reader_leaves():
    command = f"{sys.executable} -m launch.train --config=smoke --print_config | true"
    done = run("bash", "-o", "pipefail", "-c", command)
    assert (done.stderr, done.stdout.count("\n")) == ("", 0)
    assert done.returncode == flags.BROKEN_PIPE


def test_a_result_that_cannot_be_printed_is_an_error():
    command = f"{sys.executable} -m launch.train --config=smoke --print_config"
    done = run("bash", "-c", f"{command} > /dev/full")
    assert (done.returncode, done.stderr) == (
        flags.USER_ERROR,
        "error: standard output: No space left on device\n",
    )


# Prints more than a pipe or a buffer holds, in the middle and at the end.
CHATTY = """
import os, signal, sys
from pathlib import Path
from p2p_sac_jax.commands.flags import Program
from p2p_sac_jax.experiment.console import Reporter
from p2p_sac_jax.experiment.signals import StopRequest

PROGRAM = Program("What it does.")
_RESULT = PROGRAM.path("result", "", "file")

@PROGRAM.main
def main():
    reporter = Reporter()
    with StopRequest() as stop:
        for index in range(2000):
            print("a line of text on standard output")
            reporter.log("a line of text on standard error")
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
    reporter.table({"columns": ["a"], "rows": [["b"]] * 2000}, "table", "caption")
    with open(_RESULT.value, "w") as file:
        assert file.fileno() > 2
        print("result", file=file)

main()
"""


@pytest.mark.parametrize(
    "streams",
    [">&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "| true",
     "2>&1 | head -n 1"],
)  # fmt: skip
def test_what_a_program_prints_does_not_decide_about_its_results(tmp_path, streams):
    (tmp_path / "chatty.py").write_text(CHATTY)
    result = tmp_path / "result"
    command = f"{sys.executable} {tmp_path / 'chatty.py'} --result={result} {streams}"
    done = run("bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 0, done.stderr
    assert not {"Traceback", "Exception ignored"} & {*done.stderr.split(":")}
    assert "Error" not in done.stderr
    assert result.read_text() == "result\n"


def test_paths_are_those_that_the_user_means(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    program = flags.Program("")
    flag = program.path("workdir", "", "folder")
    program.parse(["program", "--workdir=~/x"])
    assert flag.value == tmp_path / "x"
    for text, reason in {
        "~nobody-of-this-name/x": "Could not determine home directory.",
        "x" * 300: "File name too long",
        "a/" * 5000: "File name too long",
        "a\0b": "embedded null byte",
    }.items():
        with pytest.raises(ConfigError) as error:
            program.parse(["program", f"--workdir={text}"])
        assert str(error.value) == f"--workdir={text!r}: {reason}"


def test_a_file_of_flags_counts_as_the_command_line(tmp_path):
    file = tmp_path / "flags"
    file.write_text(f"{PRICING}\n--config.seed=7\n")
    assert parse(f"--flagfile={file}").seed == 7
    file.write_text("--config.sac.tua=1\n")
    with pytest.raises(ConfigError, match=r"mean --config\.sac\.tau\?"):
        parse(PRICING, f"--flagfile={file}")
    with pytest.raises(ConfigError, match="nowhere"):
        parse(PRICING, f"--flagfile={tmp_path / 'nowhere'}")

"""What is parsed, what is called, what is printed, and how it ends; the API is a stand-in."""

import json
import types
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import tunewise
from tests.cli.fake_api import LEADERBOARD, RECOMMENDATION, TASK, FakeApi, run, study
from tunewise import methods, metrics
from tunewise.cli.names import method_names, metric_names
from tunewise.errors import CandidateError, DataError, SettingError, WorkError
from tunewise.methods.base import FAMILIES
from tunewise.reading import Profile
from tunewise.reading.clean import Conflict
from tunewise.recommend import Compared
from tunewise.settings import Settings, flag
from tunewise.task import KINDS


class TestCompare:
    def test_flags_become_arguments(self, api: FakeApi) -> None:
        flags = (
            "my.csv --input title --input body --target label --group user --instruction Sort. "
            "--labels words.json --kind classification --metric mcc --test held.csv --validation 0.25 "
            "--train-rows 64 --drop-incomplete --truncate --model base --methods lora,full --budget 40trials "
            "--margin 1.5 --seed 3 --out here"
        )
        assert run("compare", *flags.split()).exit_code == 0
        name, given, named = api.only_call()
        assert (name, given) == ("compare", ("my.csv",))
        record = named.pop("settings")
        assert callable(named.pop("on_event"))
        assert named.pop("command")[0] == "tunewise"
        assert named == {
            "input": ("title", "body"),
            "target": "label",
            "group": "user",
            "instruction": "Sort.",
            "labels": Path("words.json"),
            "kind": "classification",
            "metric": "mcc",
            "test": Path("held.csv"),
            "validation": 0.25,
            "train_rows": 64,
            "drop_incomplete": True,
            "truncate": True,
            "model": "base",
            "methods": ("lora", "full"),
            "budget": "40trials",
            "margin": 1.5,
            "seed": 3,
            "curve": False,
            "curve_budget": "20m",
            "jobs": 1,
            "out": Path("here"),
        }
        assert record["train_rows"] == {"value": 64, "from": "flag"}
        assert record["out"] == {"value": "here", "from": "flag"}

    def test_without_flags_the_defaults_go_in(self, api: FakeApi) -> None:
        assert run("compare", "data/tickets.csv").exit_code == 0
        _, _, named = api.only_call()
        assert named["settings"]["out"] == {"value": "runs/tickets", "from": "default"}
        given = {name: named[name] for name in named if name not in ("settings", "on_event", "command")}
        assert given == {
            "model": "smollm2-135m",
            "methods": None,
            "budget": "10m",
            "margin": 2.0,
            "seed": 0,
            "truncate": False,
            "curve": False,
            "curve_budget": "20m",
            "jobs": 1,
            "out": Path("runs/tickets"),
        }

    def test_an_existing_run_is_left_alone(self, api: FakeApi) -> None:
        for name in ("tickets", "tickets-2"):
            Path("runs", name).mkdir(parents=True)
        run("compare", "tickets.csv")
        assert api.only_call()[2]["out"] == Path("runs/tickets-3")

    def test_settings_come_from_the_file_and_a_flag_can_switch_off(self, api: FakeApi) -> None:
        Path("tunewise.toml").write_text('budget = "5m"\ntruncate = true\nmargin = 3\n')
        run("compare", "tickets.csv", "--no-truncate")
        _, _, named = api.only_call()
        assert (named["budget"], named["truncate"], named["margin"]) == ("5m", False, 3.0)
        assert named["settings"]["budget"] == {"value": "5m", "from": "tunewise.toml"}
        assert named["settings"]["truncate"] == {"value": False, "from": "flag"}

    def test_results_go_to_standard_output(self, api: FakeApi) -> None:
        text = run("compare", "tickets.csv").stdout
        lines = text.splitlines()
        pick = next(line for line in lines if line.startswith("* lora"))
        assert pick.split()[1:] == [
            "lora",
            "fine-tuning",
            "0.852",
            "0.820–0.880",
            "1:14",
            "41.2",
            "19.5",
            "finished",
        ]
        unfinished = next(line for line in lines if line.startswith("  full"))
        assert unfinished.split(maxsplit=7) == ["full", "fine-tuning", *["–"] * 5, "out of budget"]
        assert "Recommended: lora, accuracy 0.852 (95 % interval 0.820–0.880, 500 test rows); " in text
        assert "shown to lose less than 2 points to every other finalist." in text
        for sentence in (*RECOMMENDATION.reasons, *RECOMMENDATION.warnings, *RECOMMENDATION.next_commands):
            assert sentence in text
        assert "Guessed: input text; target intent." in text
        assert "Input: text. Target: intent." in text
        assert "Report: runs/tickets/report.html" in text

    def test_json_is_alone_on_standard_output(self, api: FakeApi) -> None:
        api.events = [{"event": "phase", "text": "reading"}]
        result = run("compare", "tickets.csv", "--json")
        told = json.loads(json.dumps(RECOMMENDATION.to_json()))
        assert json.loads(result.stdout) == told | {"folder": "runs/tickets"}
        assert "reading" in result.stderr

    def test_json_has_no_minus_zero(self, api: FakeApi) -> None:
        equal = replace(RECOMMENDATION, difference=Compared(-0.0, (-0.0, 0.01), 1.0))
        api.answers["compare"] = types.SimpleNamespace(folder=Path("r"), recommendation=equal)
        text = run("compare", "tickets.csv", "--json").stdout
        assert "-0.0" not in text.replace("-0.006", "").replace("-0.03", "")
        assert json.loads(text)["difference"]["value"] == 0.0

    def test_the_leaderboard_fits_80_columns(self, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        table = run("compare", "tickets.csv").stdout.split("\nRecommended")[0].splitlines()
        assert max(map(len, table)) <= 80
        assert len([line for line in table if line.strip()]) == 1 + len(LEADERBOARD)

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--budget", "soon"], 'error: --budget: found "soon"; expected a time (90s, 10m, 1h30m)'),
            (["--seed", "x"], 'error: --seed: found "x"; expected a whole number'),
            (["--kind", "regression"], 'error: unknown kind "regression"'),
        ],
    )
    def test_a_wrong_setting_ends_with_2(self, api: FakeApi, flags: list[str], message: str) -> None:
        result = run("compare", "tickets.csv", *flags)
        assert result.exit_code == 2
        assert result.stderr.startswith(message)
        assert result.stdout == ""
        assert api.calls == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["compare"], "missing argument DATA. See: tunewise compare --help"),
            (["report"], "missing argument RUN. See: tunewise report --help"),
            (
                ["compare", "a.csv", "--bugdet", "3"],
                "no such option: --bugdet. Did you mean --budget? See: tunewise compare --help",
            ),
            (["runs", "--qqq"], "no such option: --qqq. See: tunewise runs --help"),
            (["compere"], 'no such command "compere". Did you mean "compare"? See: tunewise --help'),
            (["compare", "a.csv", "--seed"], "option --seed requires an argument. See: tunewise compare --help"),
            (
                ["predict", "runs/t", "my", "card"],
                "one argument too many: card. A text or a name with spaces needs quotes around it. "
                "See: tunewise predict --help",
            ),
        ],
    )
    def test_wrong_usage_is_one_line_and_ends_with_2(
        self, api: FakeApi, arguments: list[str], message: str
    ) -> None:
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        # The program's name is that of the test runner's call.
        assert result.stderr.replace("See: root", "See: tunewise") == f"error: {message}\n"
        assert api.calls == []

    def test_one_of_something_is_singular(self, api: FakeApi) -> None:
        one = replace(RECOMMENDATION, n_test=1, margin=1.0)
        api.answers["compare"] = lambda data, **named: types.SimpleNamespace(
            **vars(study(named["out"])) | {"recommendation": one}
        )
        text = run("compare", "tickets.csv").stdout
        assert "1 test row); shown to lose less than 1 point to every other finalist." in text


class TestDemo:
    def test_it_is_a_comparison_with_fixed_settings(self, api: FakeApi) -> None:
        Path("tunewise.toml").write_text("seed = 9\n")
        assert run("demo").exit_code == 0
        name, given, named = api.only_call()
        assert (name, given, named["out"]) == ("compare", ("trec",), Path("runs/demo"))
        assert (named["train_rows"], named["validation"], named["budget"], named["seed"]) == (256, 200, "10m", 0)

    def test_a_second_demo_gets_its_own_folder(self, api: FakeApi) -> None:
        Path("runs/demo").mkdir(parents=True)
        run("demo", "--budget", "2m", "--seed", "4")
        _, _, named = api.only_call()
        assert (named["out"], named["budget"], named["seed"]) == (Path("runs/demo-2"), "2m", 4)


class TestEndings:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (DataError("a.csv, line 3: found 2 cells, expected 3."), 2),
            (CandidateError("no such run"), 2),
            (WorkError("no trial finished"), 1),
        ],
    )
    def test_an_error_on_purpose_is_one_message(self, api: FakeApi, error: Exception, code: int) -> None:
        api.answers["compare"] = error
        result = run("compare", "a.csv")
        assert result.exit_code == code
        assert result.stderr == f"error: {error}\n"
        assert result.stdout == ""

    def test_debug_shows_the_traceback(self, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUNEWISE_DEBUG", "1")
        api.answers["compare"] = DataError("bad")
        result = run("compare", "a.csv")
        assert "Traceback" in result.stderr
        assert result.stderr.endswith("error: bad\n")

    def test_an_interruption_says_how_to_go_on(self, api: FakeApi) -> None:
        def interrupted(data: str, **named: Any) -> None:
            named["out"].mkdir(parents=True)
            (named["out"] / "trials.jsonl").touch()
            raise KeyboardInterrupt

        api.answers["compare"] = interrupted
        result = run("compare", "tickets.csv")
        assert result.exit_code == 130
        assert "tunewise resume runs/tickets" in result.stderr

    def test_an_interruption_before_anything_was_written(self, api: FakeApi) -> None:
        api.answers["compare"] = KeyboardInterrupt()
        result = run("compare", "tickets.csv")
        assert result.exit_code == 130
        assert "interrupted" in result.stderr
        assert "resume" not in result.stderr


def planned(
    trial: str, stage: str, passes: int | None, all_passes: int | None, seconds: float
) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        trial=trial,
        stage=stage,
        passes=passes,
        all_passes=all_passes,
        parameters={"rank": 16} if passes else {},
        forecast_seconds=seconds,
        forecast_memory_mb=2310.4,
    )


class TestPlan:
    PLAN = types.SimpleNamespace(
        task=TASK,
        profile=Profile(
            rows_read=320,
            rows_used=300,
            rows={"train": 180, "validation": 60, "test": 60},
            labels={"train": {"a": 120, "b": 60}},
            majority_share=2 / 3,
            lengths={"input": {"median": 40.0, "p95": 77, "max": 1148}},
            conflict_samples=(Conflict("hello", ("a", "b"), (3, 9)),),
            warnings=("2 rows conflict.",),
        ),
        trials=[
            planned("majority-1", "baseline", None, None, 1.0),
            planned("lora-1", "full run", 3, 3, 75.0),
            planned("lora-2", "rung", 1, 3, 25.0),
        ],
        total_seconds=500.0,
        budget_seconds=600.0,
        token_lengths={"median_prompt": 61, "context": 8192},
        notes=["full is left out: it does not fit."],
        advice=types.SimpleNamespace(families=("fine-tuning", "baseline"), reasons=("Small models (A. 2021).",)),
        to_json=lambda: {"total_seconds": 500.0},
    )

    def test_it_shows_data_and_trials(self, api: FakeApi) -> None:
        api.answers["plan"] = self.PLAN
        result = run("plan", "tickets.csv", "--budget", "10m", "--target", "label")
        assert result.exit_code == 0
        name, given, named = api.only_call()
        assert (name, given, named["target"], named["budget"]) == ("plan", ("tickets.csv",), "label", "10m")
        assert "Input: text. Target: intent." in result.stdout
        assert "Guessed: input text; target intent." in result.stdout
        assert "Rows: 320 read; 180 for training, 60 for validation, 60 for the test." in result.stdout
        assert "Training rows by label: a 120, b 60; the most frequent is 67 % of all rows." in result.stdout
        assert "Input length in characters: median 40, 95 % below 77, longest 1,148." in result.stdout
        assert 'Conflict: "hello" stands with a and b (rows 3, 9).' in result.stdout
        assert "- 2 rows conflict." in result.stdout
        assert "Groups" not in result.stdout
        assert "Median prompt: 61" in result.stdout
        table = [line.split(maxsplit=1) for line in result.stdout.splitlines() if "2,310" in line]
        assert [(trial, " ".join(rest.split())) for trial, rest in table] == [
            ("majority-1", "baseline 0:01 2,310"),
            ("lora-1", "full run: 3 passes rank 16 1:15 2,310"),
            ("lora-2", "rung only: 1 of 3 passes rank 16 0:25 2,310"),
        ]
        assert "- rung only: a short trial, to choose the learning rate." in result.stdout
        assert "- full run: trained to its end" in result.stdout
        assert "- next rate" not in result.stdout
        assert "In all about 8:20 of 10:00" in result.stdout
        assert "- full is left out" in result.stdout
        assert "To expect most from, on tasks like this one: fine-tuning, then baseline" in result.stdout
        assert "- Small models (A. 2021)." in result.stdout

    def test_json(self, api: FakeApi) -> None:
        api.answers["plan"] = self.PLAN
        assert json.loads(run("plan", "tickets.csv", "--json").stdout) == {"total_seconds": 500.0}


class TestRecommend:
    def test_wishes_become_arguments(self, api: FakeApi) -> None:
        flags = (
            "--requests-per-month 1e6 --updates-per-month 2 --max-ms 50 --max-memory 1GB --real-time --margin 1 "
            "--price-per-hour 1.2"
        )
        assert run("recommend", "r", *flags.split()).exit_code == 0
        name, given, named = api.only_call()
        assert (name, given) == ("recommend", (Path("r"),))
        assert named == {
            "requests_per_month": 1e6,
            "updates_per_month": 2.0,
            "max_ms": 50.0,
            "max_memory": "1GB",
            "real_time": True,
            "margin": 1.0,
            "price_per_hour": 1.2,
        }

    def test_it_shows_the_verdict_and_what_every_finalist_costs(self, api: FakeApi) -> None:
        shown = " ".join(run("recommend", "r").stdout.split())
        assert "Recommended: lora, accuracy 0.852" in shown
        assert "What would change it - Below about 13,000 requests" in shown
        assert "after how many requests with 2 set-ups each has cost as much as the pick" in shown
        assert "lora 61 310 T 41.2 8.1 T 18,000 the pick" in shown
        assert "prompt-then-lora 61 260 T 41.2 8.1 T 18,000 41,234" in shown
        assert "majority 61 0 41.2 8.1 T 18,000 always cheaper" in shown
        assert "better and cheaper at once than any of: lora, majority." in shown

    def test_json_is_the_recommendation(self, api: FakeApi) -> None:
        found = json.loads(run("recommend", "r", "--json").stdout)
        assert found["pick"] == "lora"
        assert found["break_even_requests"]["majority"] is None
        assert found["folder"] == "r"

    def test_a_wish_that_nothing_meets_is_a_wrong_request(self, api: FakeApi) -> None:
        api.answers["recommend"] = SettingError("no finalist does what is asked: lora: it takes 41.2 ms.")
        found = run("recommend", "r", "--max-ms", "1")
        assert found.exit_code == 2
        assert "no finalist does what is asked" in found.stderr


class TestTheRest:
    def test_resume(self, api: FakeApi) -> None:
        assert "Recommended: lora" in run("resume", "runs/t").stdout
        assert api.only_call()[1] == (Path("runs/t"),)
        assert api.only_call()[2]["jobs"] is None
        assert json.loads(run("resume", "runs/t", "--json").stdout)["pick"] == "lora"

    def test_resume_with_other_jobs(self, api: FakeApi) -> None:
        assert run("resume", "runs/t", "--jobs", "2").exit_code == 0
        assert api.only_call()[2]["jobs"] == 2

    def test_report_prints_the_page(self, api: FakeApi) -> None:
        api.answers["report"] = Path("runs/t/report.html")
        assert run("report", "runs/t").stdout == "runs/t/report.html\n"
        assert api.only_call()[1] == (Path("runs/t"),)

    def test_runs(self, api: FakeApi) -> None:
        record = types.SimpleNamespace(
            path=Path("runs/t"), created="2026-03-01T10:20:30+00:00", status="finished", pick="lora", score=0.852
        )
        api.answers["runs"] = [record]
        assert "runs/t  2026-03-01 10:20  finished  lora  0.852" in run("runs").stdout
        assert api.only_call()[1] == (Path("runs"),)

    def test_no_runs_say_so(self, api: FakeApi) -> None:
        api.answers["runs"] = []
        assert "No runs in there." in run("runs", "there").stdout

    @pytest.mark.parametrize("command", ["models", "data"])
    def test_the_catalog_is_listed(self, api: FakeApi, command: str) -> None:
        entry = types.SimpleNamespace(
            name="trec", description="questions", licence="free", size_mb=85.3, pulled=True
        )
        other = types.SimpleNamespace(**vars(entry) | {"name": "spam", "pulled": False})
        api.answers[command] = [entry, other]
        result = run(command)
        assert api.only_call()[0] == command
        assert "trec  85.3  yes      free     questions" in result.stdout
        assert "spam  85.3  no       free     questions" in result.stdout
        assert f"tunewise {command} pull NAME" in result.stdout

    def test_pull(self, api: FakeApi) -> None:
        api.answers |= {"pull_model": Path("cache/m"), "pull_data": Path("cache/d.csv")}
        assert run("models", "pull", "gemma", "--accept-terms").stdout == "cache/m\n"
        assert run("data", "pull", "trec").stdout == "cache/d.csv\n"
        model, data = api.calls
        assert model[2].pop("on_progress") is not None
        assert data[2].pop("on_progress") is not None
        assert model == ("pull_model", ("gemma",), {"accept_terms": True})
        assert data == ("pull_data", ("trec",), {})

    def test_version(self, api: FakeApi) -> None:
        assert run("--version").stdout == f"tunewise {tunewise.__version__}\n"

    def test_help_names_every_setting(self) -> None:
        text = run("compare", "--help").stdout
        for name in Settings.model_fields:
            assert f"{flag(name)} " in text

    @pytest.mark.parametrize("command", ["compare", "plan"])
    def test_help_names_every_method_and_metric(self, command: str) -> None:
        text = run(command, "--help").stdout
        assert method_names() == {
            family: [name for name, method in methods.registered().items() if method.family == family]
            for family in FAMILIES
        }
        assert metric_names() == {kind: metrics.names(kind) for kind in KINDS}
        for names in (*method_names().values(), *metric_names().values()):
            assert ", ".join(names) in text

    def test_without_a_command_the_help_is_shown(self) -> None:
        result = run()
        assert result.exit_code == 0
        assert "compare" in result.stdout

    @pytest.mark.parametrize(
        "command", ["demo", "compare", "plan", "report", "predict", "resume", "runs", "models", "data"]
    )
    def test_every_command_has_help(self, command: str) -> None:
        assert run(command, "--help").exit_code == 0
        assert command in run("--help").stdout


class TestCurve:
    LEARNING: ClassVar[dict[str, Any]] = {
        "labels": 64,
        "validation": 20,
        "candidates": {
            "lora": {
                "family": "fine-tuning",
                "scores": {"8": [0.5, 0.6, 0.7], "64": [0.8, 0.8, 0.8]},
                "twice": {"value": 0.85, "low": 0.8, "high": 0.9},
                "advantage": None,
                "advantage_ci": None,
            },
            "few-shot": {
                "family": "prompt engineering",
                "scores": {"8": [0.4, 0.4, 0.4]},
                "twice": None,
                "advantage": 21.3,
                "advantage_ci": [3.2, 40.0],
            },
        },
        "constant": {},
        "unmeasured": ["few-shot"],
    }

    def test_the_curves_are_told_without_the_costs(self, api: FakeApi) -> None:
        told = replace(RECOMMENDATION, learning=self.LEARNING)
        api.answers["curve"] = types.SimpleNamespace(folder=Path("r"), recommendation=told)
        shown = run("curve", "r", "--budget", "3m")
        assert shown.exit_code == 0
        name, given, named = api.calls[-1]
        assert (name, given, named["budget"]) == ("curve", (Path("r"),), "3m")
        rows = [line.split() for line in shown.stdout.splitlines()]
        assert ["lora", "0.600", "0.800", "0.850", "(0.800–0.900)", "–"] in rows
        assert ["few-shot", "0.400", "–", "21", "(3", "to", "40)"] in rows
        assert "Not measured, or not to the end: few-shot." in shown.stdout
        assert "What they cost" not in shown.stdout

    def test_json_is_the_recommendation(self, api: FakeApi) -> None:
        told = replace(RECOMMENDATION, learning=self.LEARNING)
        api.answers["curve"] = types.SimpleNamespace(folder=Path("r"), recommendation=told)
        assert json.loads(run("curve", "r", "--json").stdout)["learning"]["labels"] == 64

    def test_compare_passes_the_curve_on_and_plan_knows_none(self, api: FakeApi, tmp_path: Path) -> None:
        assert (
            run("compare", "a.csv", "--curve", "--curve-budget", "5m", "--out", str(tmp_path / "r")).exit_code == 0
        )
        named = api.calls[-1][2]
        assert (named["curve"], named["curve_budget"]) == (True, "5m")
        assert run("plan", "a.csv", "--curve").exit_code == 2
        assert run("compare", "a.csv", "--curve-budget", "soon").exit_code == 2

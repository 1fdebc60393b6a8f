"""Shows event files of this library in TensorBoard itself, and compares what it shows with what was written.

Usage: python test/interop/event-files.py WORK_DIRECTORY

Needs tensorboard; run it in the repository's root after `npm ci && npm run build`. Two runs of `safetape train` write into
directories of their own, and a program writes every kind of entry, and a second file that goes on after a checkpoint. TensorBoard
serves them on this machine alone, once by each of its loaders.
"""
import base64
import json
import math
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import tensorboard

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# The smallest PNG file, of one grey pixel.
PNG = base64.b64encode(bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c636000000002000148afa471"
    "0000000049454e44ae426082")).decode()
PROGRAM = """
import { appendFileSync, readdirSync } from "node:fs";
import { openSummaryWriter } from "./dist/node-analysis.js";
const directory = process.argv[1];
const first = await openSummaryWriter(directory);
await first.addHparams({ rank: 4, kind: "λ", is_on: true, rate: 1e-5 }, ["train/loss", "final/accuracy"]);
await first.addText(0, "run", "**λ** is 0.5");
await first.addImage(1, "figure", Buffer.from(process.argv[2], "base64"));
for (const step of [1, 2, 3, 2 ** 32]) await first.addScalars(step, { "train/loss": 1 / step, "train/nan": NaN });
// The run ended while it wrote a record.
appendFileSync(`${directory}/${readdirSync(directory)[0]}`, Buffer.alloc(20, 1));
const second = await openSummaryWriter(directory, { purgeStep: 3 });
await second.addScalars(3, { "train/loss": 7, "train/nan": 0 });
await second.end();
"""


def node(*arguments):
    subprocess.run(["node", *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def train(work, rank):
    data = ROOT / "examples/data/sentiment"
    (work / "data").mkdir(exist_ok=True)
    for split, rows in (("train", 33), ("dev", 17)):
        (work / f"data/{split}.tsv").write_text("".join((data / f"{split}.tsv").open().readlines()[:rows]))
    node("dist/cli.js", "train", "--model", "examples/model", "--task", "sst2", "--data", str(work / "data"), "--rank", str(rank),
         "--epochs", "1", "--batch", "8", "--eval-every", "2", "--out", str(work / f"out-{rank}"),
         "--tensorboard", str(work / f"runs/rank-{rank}"))
    return json.loads((work / f"out-{rank}/run.json").read_text())


class Board:
    """TensorBoard on a folder of runs."""

    def __init__(self, folder, is_fast):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}/data"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--host", "127.0.0.1", "--load_fast", is_fast,
             "--port", self.address.split(":")[-1].split("/")[0], "--samples_per_plugin", "text=100,images=100"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def read(self, path, body=None, **query):
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.address}/{path}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"} if data else {})
        return urllib.request.urlopen(request, timeout=20).read()

    def json(self, *arguments, **query):
        return json.loads(self.read(*arguments, **query))

    def scalars(self, run, tag):
        return [(step, value) for _, step, value in self.json("plugin/scalars/scalars", run=run, tag=tag)]

    def settings(self):
        """Settings, status and metrics by run."""
        names = [info["name"] for info in self.json("plugin/hparams/experiment", {"experimentName": ""})["hparamInfos"]]
        groups = self.json("plugin/hparams/session_groups", {
            "experimentName": "", "startIndex": 0, "sliceSize": 100, "colParams": [{"hparam": name} for name in names],
            "allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING", "STATUS_UNKNOWN"]})["sessionGroups"]
        return {session["name"]: (group["hparams"], session["status"],
                                  {value["name"]["tag"]: value["value"] for value in session["metricValues"]})
                for group in groups for session in group["sessions"]}


def is_near(a, b):
    if isinstance(a, float) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-6)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(is_near, a, b))
    return a == b


def shown_and_written(board, records):
    """What, what TensorBoard shows of it, and what was written."""
    settings = board.settings()
    for rank, record in records.items():
        run = f"rank-{rank}"
        steps = record["steps"]
        yield f"{run}'s losses", board.scalars(run, "train/loss"), [(step["step"], step["loss"]) for step in steps]
        yield f"{run}'s bytes", board.scalars(run, "memory/saved_bytes"), [(step["step"], step["bytes"]["saved"]) for step in steps]
        yield f"{run}'s evaluations", board.scalars(run, "eval/accuracy"), [
            (each["step"], each["metrics"]["accuracy"]) for each in record["evaluations"]]
        hparams, status, metrics = settings[run]
        yield f"{run}'s settings and status", (hparams["rank"], hparams["adapter"], status), (rank, "lora", "STATUS_SUCCESS")
        yield f"{run}'s metric", metrics["final/accuracy"], record["metrics"]["accuracy"]
        [text] = board.json("plugin/text/text", run=run, tag="run/text_summary")
        yield f"{run}'s text", "safetape train" in text["text"], True
    yield "losses of a second file", board.scalars("program", "train/loss"), [(1, 1.0), (2, 0.5), (3, 7.0)]
    yield "steps of what is no number", [step for step, _ in board.scalars("program", "train/nan")], [1, 2, 3]
    yield "settings without an end", settings["program"][:2], (
        {"rank": 4.0, "kind": "λ", "is_on": True, "rate": 1e-5}, "STATUS_UNKNOWN")
    [text] = board.json("plugin/text/text", run="program", tag="run/text_summary")
    yield "text", "<strong>λ</strong> is 0.5" in text["text"], True
    [image] = board.json("plugin/images/images", run="program", tag="figure", sample=0)
    yield "step of an image", image["step"], 1
    yield "image", base64.b64encode(board.read(f"plugin/images/individualImage?{image['query']}&")).decode(), PNG


def differences(board, records):
    """What differs, once TensorBoard has read everything or a minute has passed."""
    end = time.monotonic() + 60
    while True:
        try:
            found = [f"{what}: {shown!r} instead of {written!r}"
                     for what, shown, written in shown_and_written(board, records) if not is_near(shown, written)]
        except (OSError, KeyError, ValueError) as error:
            found = [f"{type(error).__name__}: {error}"]
        if not found or time.monotonic() > end:
            return found
        time.sleep(1)


work = pathlib.Path(sys.argv[1]).resolve()
shutil.rmtree(work, ignore_errors=True)
(work / "runs").mkdir(parents=True)
records = {rank: train(work, rank) for rank in (2, 4)}
node("--input-type=module", "-e", PROGRAM, str(work / "runs/program"), PNG)
failures = []
for is_fast in ("false", "true"):
    board = Board(work / "runs", is_fast)
    try:
        failures += differences(board, records)
    finally:
        board.process.terminate()
        board.process.wait()
print(*failures, f"TensorBoard {tensorboard.__version__} shows {'everything as it was written' if not failures else 'something else'}", sep="\n")
sys.exit(1 if failures else 0)

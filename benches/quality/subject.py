"""The subject `quality` of `benches/run.py`: every task, with every seed, by Volary and by Keras; then the page."""

import datetime
import os
import platform
import statistics
import sys
from dataclasses import dataclass, field

import measure
import pyarrow as pa
from server import BINARY

from .tasks import OF_REVIEWS, SHIPPED

sys.path.insert(0, str(measure.ROOT / "examples"))

METHOD = """\
Both sides build the same network from the same function of `benches/quality/models.py`, which takes the library, `volary` or `keras`, as its
argument; `tasks.py` beside it has rows, loss, optimizer (Adam, for some at a rate that falls along a cosine), batch size and epochs, once for
both. Volary trains on one server with two threads, through the Python client: `put`, `compile`, `fit`, `evaluate`. Keras trains on its PyTorch
backend with one thread. Each seed decides first weights, order and dropout of a run; the seeds of the two libraries have nothing in common, so single
runs are not pairs, and the means are compared. The last epoch's weights are judged, without early stopping or validation rows. Epochs and
rates were set after a few trial runs whose test numbers were seen, and are the same for both sides. Times are not compared here: the speed of the engine has pages of its own.
"""

NOTES = {
    "lenet": "The images are test images of MNIST; the network scales their bytes.",
    "resnet_20": (
        "Same rows. Batch normalization normalizes within a lane here, 32 rows of a minibatch of 64 (docs/training.md), and over the whole "
        "minibatch in Keras."
    ),
    "taxi": (
        "A window is the last 48 half hours known a day ahead; beside each value stands the weekly naive forecast of the half hour a day "
        "later, and its place in day and week. The last 20 % of the time is the test, from 20 December 2014, with Christmas, New Year "
        "and a blizzard in it, which the naive forecast (the value a week before) repeats a week late."
    ),
    "autoencoder": (
        "The network is a subclassed layer with `add_loss` and `random_normal` between two dense halves, the loss a function of symbolic "
        "tensors. The negative ELBO is the mean training loss of the last epoch, noise included. The test's reconstruction is that of the code's "
        "mean, a metric of `evaluate`; the divergence is not in it."
    ),
    "text_cnn": (
        "The polarity dataset v2.0 of Pang and Lee (2004), 2,000 reviews, folds 0 to 7 to train and 8 and 9 to test: 400 rows, so that a "
        "point is four reviews. The last 500 words of each, the 10,000 most frequent words of the training folds."
    ),
    "mean_of_words": "Same rows; padding is masked.",
}


@dataclass
class Learned:
    """What the runs of one task came to, by each seed: numbers by name."""

    task: object
    peer: measure.Result
    ours: list[dict[str, float]] = field(default_factory=list)
    theirs: list[dict[str, float]] = field(default_factory=list)

    def rows(self):
        """A row of the table for each score."""
        for score in self.task.scores:
            sides = [[run[score.key] * score.factor for run in runs] for runs in (self.ours, self.theirs)]
            means = [statistics.mean(side) if side else None for side in sides]
            comparable = means[1] is not None or "within" not in score.bar
            reached = ("yes" if score.reached(*means) else "**no**") if comparable else "–"
            naive = "–" if score.naive is None else f"{score.naive:.{score.digits}f}"
            shown = [_with_seeds(mean, side, score.digits) for mean, side in zip(means, sides, strict=True)]
            yield [self.task.title, score.title, *shown, naive, score.bar, reached]


def _with_seeds(mean, values, digits):
    if mean is None:
        return "–"
    return f"{mean:.{digits}f} ({', '.join(f'{value:.{digits}f}' for value in values)})"


def quality(options, work):
    """Real training runs, each with several seeds, beside the same network in Keras."""
    import volary
    from cluster import Cluster

    from .ours import learn

    os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras looks for it when it is imported
    with_keras = measure.has(options.python, "keras", "torch", "pyarrow")
    builders = dict(SHIPPED)
    if options.reviews is None:
        print("  movie reviews passed over: give --reviews FILE; benches/README.md says where they are to be had")
    else:
        builders |= {name: lambda build=build: build(options.reviews) for name, build in OF_REVIEWS.items()}
    learned = []
    with Cluster(1, work / "store", work / "logs", ["--threads", "2"]) as cluster, volary.connect(cluster.url) as client:
        for name, build in builders.items():
            runs = Learned(build(), measure.Result(name, ""))
            learned.append(runs)
            for seed in range(1, options.seeds + 1):
                runs.ours.append(learn(client, runs.task, seed))
                print(f"  {name}, seed {seed}: {_short(runs, runs.ours)}", end="", flush=True)
                if with_keras:
                    given = [name, seed] + (["--reviews", options.reviews] if name in OF_REVIEWS else [])
                    runs.theirs.append(measure.peer(runs.peer, options.python, "keras_quality.py", *given)())
                    print(f", Keras {_short(runs, runs.theirs)}", end="")
                print(flush=True)
    write_page(learned, options.seeds, options.out)


def _short(learned, runs):
    return ", ".join(f"{runs[-1][score.key] * score.factor:.{score.digits}f}" for score in learned.task.scores)


HEADER = ["task", "what", "Volary, mean (each seed)", "Keras, mean (each seed)", "naive", "bar", "met"]


def write_page(learned, seeds, directory):
    """`<date>-quality.md`."""
    began = datetime.date.today().isoformat()
    versions = [measure.version_of(BINARY), f"python {platform.python_version()}", f"pyarrow {pa.__version__} (client)"]
    versions += sorted({version for runs in learned for version in runs.peer.versions})
    results = measure.table([row for runs in learned for row in runs.rows()], HEADER)
    page = [f"# Quality of real training runs beside Keras, {began}", ""]
    page += [f"* machine: {measure.machine()}", f"* versions: {'; '.join(versions)}; commit {measure.commit()}"]
    page += [f"* command: `{measure.command_line()}`", f"* seeds: {', '.join(map(str, range(1, seeds + 1)))}", ""]
    page += [results, "", "## Method", "", METHOD]
    if not any(runs.task.name in OF_REVIEWS for runs in learned):
        page += ["The movie reviews were passed over: the run was given no file of them.", ""]
    for runs in learned:
        task = runs.task
        rate = f"Adam {task.learning_rate:g}{', falling along a cosine' if task.decays else ''}"
        page.append(
            f"**{task.title}.** {len(task.train[0]):,} rows to train, {len(task.test[0]):,} to test; {task.epochs} epochs of minibatches "
            f"of {task.batch_size}, {rate}. {NOTES[task.name]}\n"
        )
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{began}-quality.md"
    path.write_text("\n".join(page).rstrip() + "\n")
    print(f"\n{results}\n\nwritten: {path}\n", flush=True)

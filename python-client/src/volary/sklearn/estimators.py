"""VolaryClassifier and VolaryRegressor."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from ..client import Client
from ..errors import InvalidArgumentError
from ..handles import ServedModel
from ..jobs import JobHandle
from ..model import Model, Sequential, layers, optimizers, regularizers
from ..model.callbacks import EarlyStopping
from ..model.functional import BATCH_SIZE_MAX, _whole
from .connecting import client_of, hand_on, take_over
from .rows import Columns, TrainingRows, float32

__all__ = ["VolaryClassifier", "VolaryRegressor"]

#: Rows of a step where ``batch_size="auto"``, as MLPClassifier has it.
AUTO_BATCH = 200

_PARAMETERS = """

    Parameters
    ----------
    server : str, volary.Client or None, default=None
        The cluster: an address such as ``grpc://127.0.0.1:50051``, or a client. ``None`` is the newest connection of
        :func:`volary.connect`; else the environment variable ``VOLARY_SERVER``; else a server on this machine.
    hidden_layer_sizes : int or sequence of int, default=(64,)
        Units of each hidden layer; ``()`` is none, a linear model.
    activation : str or dict, default="relu"
        Of the hidden layers: any of the servers' names (``docs/model-spec.md``).
    alpha : float, default=0.0001
        Strength of the L2 penalty on the weights of the layers, divided by the rows of a step as MLPClassifier does.
    optimizer : str or volary optimizer, default="adam"
        A name of :mod:`volary.optimizers`, or an object of it, whose own learning rate holds then.
    learning_rate : float or schedule, default=0.001
        Of an optimizer given by its name; a number or one of ``volary.optimizers.schedules``.
    batch_size : int or "auto", default="auto"
        Rows of one step; "auto" is 200, or all rows where there are fewer.
    epochs : int, default=100
        Passes over the rows, at most.
    tol : float or None, default=1e-4
        What counts as progress of the loss, see `n_iter_no_change`. ``None``: train all epochs.
    n_iter_no_change : int, default=10
        Training ends when the training loss (with `early_stopping` the validation loss) has not become better by `tol` for so
        many epochs.
    early_stopping : bool, default=False
        Hold `validation_fraction` of the rows out, measure them after each epoch, and keep the best epoch's weights.
    validation_fraction : float, default=0.1
        Share of the rows held out by `early_stopping`; of a classifier the same share of each class.
    shuffle : bool, default=True
        Meet the rows in a new order every epoch.
    random_state : int, RandomState or None, default=None
        Decides initial weights, order and what is held out. The same int and rows give the same bits on any
        number of servers.{class_weight}
    network : volary.Model or None, default=None
        A network instead of `hidden_layer_sizes`, `activation` and `alpha`, which do not count then. It ends in {ending}.
    loss : str, dict, volary loss, function or None, default=None
        ``None``: {loss}.
    model_name : str or None, default=None
        Name of the model on the cluster; each fit commits its next version. ``None``: a generated one, a further fit of this
        object being a further version. Models stay until :meth:`drop_model` or ``client.drop_model(name)``.
    verbose : int, default=0
        1: a progress bar; 2: a line per epoch.

    Attributes
    ----------{classes}
    n_features_in_ : int
        Features seen in fit.
    feature_names_in_ : ndarray of str
        Their names, where X had names; the model's columns on the cluster have them too.
    n_outputs_ : int
        Numbers that the network answers for a row.
    n_iter_ : int
        Epochs that were trained.
    loss_curve_ : list of float
        The training loss after each epoch.
    history_ : dict of list
        Every measure after each epoch, as Keras' History has them.
    model_name_, model_version_ : str, int
        The committed model.
    server_ : str
        The address where it was made.
"""


class _VolaryEstimator(BaseEstimator):
    """What both have in common. Subclasses say what the labels are and what is answered."""

    _metrics: ClassVar[tuple[str, ...]] = ()

    # -- what the subclasses say --------------------------------------------------------------------------------

    def _targets(
        self, y: Any, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Labels as numbers, what each row weighs, and what makes the label column's values of the numbers."""
        raise NotImplementedError

    def _last_layer(self) -> tuple[int, str | None]:
        """Units and activation."""
        raise NotImplementedError

    def _default_loss(self) -> str:
        raise NotImplementedError

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        """What the held-out rows shall have the same share of."""
        return None

    # -- training -----------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on the cluster and wait for it; Ctrl-C cancels the job there.

        The rows are a dataset of the cluster only while this runs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers. A DataFrame's columns keep their names on the cluster.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row counts in the loss. A row of weight 2 counts as two rows, one of weight 0 as none.

        Returns
        -------
        self : object
        """
        title = getattr(y, "name", None)
        with np.errstate(over="ignore"):  # what is beyond float32 is refused as infinity
            X, y = validate_data(
                self, X, y, multi_output=True, dtype=np.float32, y_numeric=isinstance(self, RegressorMixin)
            )
        if hasattr(y, "toarray"):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not np.any(weights > 0):
            raise ValueError("Sample weights must contain at least one non-zero number.")
        counted = weights > 0
        X, y, weights = X[counted], y[counted], weights[counted]
        random = check_random_state(self.random_state)
        seed = int(random.randint(np.iinfo(np.int32).max))
        targets, weighed, values_of = self._targets(y, weights)
        rows, held_out = TrainingRows(X, targets, weighed).weighing_something(), None
        # The penalty knows how much all rows weigh, whatever the classes do among themselves.
        weight = float(weights.sum())
        if self.early_stopping:
            rows, held_out = self._held_out(rows, seed)
            weight *= 1 - self.validation_fraction
        whole = len(rows)
        batch_size = self._rows_of_a_step(whole)
        if batch_size >= whole:
            rows = rows.merged()
            batch_size = len(rows)
            in_a_step = weight
        else:
            in_a_step = weight * batch_size / whole
        columns = Columns.of(list(self.feature_names_in_) if hasattr(self, "feature_names_in_") else None, title)
        client = client_of(self.server)
        network = self._network(in_a_step)
        network.compile(self._optimizer(), self._default_loss() if self.loss is None else self.loss, self._metrics)
        name = self._name()

        def table(part: TrainingRows, weights: np.ndarray | None) -> pa.Table:
            return columns.labelled(part.features, values_of(part.targets), weights)

        relative = rows.relative_weights()
        history = network.fit(
            table(rows, relative),
            columns.label,
            features=columns.inputs,
            epochs=self.epochs,
            batch_size=batch_size,
            validation_data=None if held_out is None else table(held_out, _beside(relative, held_out)),
            seed=seed,
            sample_weight=None if relative is None else columns.weight,
            callbacks=self._callbacks(),
            shuffle=bool(self.shuffle),
            name=name,
            verbose=int(self.verbose),
            client=client,
        )
        self.history_: dict[str, list[float]] = history.history
        self.loss_curve_ = self.history_["loss"]
        self.n_iter_ = len(history)
        self.model_name_ = network.served.name
        self.model_version_ = network.served.version
        self.server_ = client.url
        self._columns = columns
        self._job = history.job.id
        return self

    def _held_out(self, rows: TrainingRows, seed: int) -> tuple[TrainingRows, TrainingRows]:
        if not (isinstance(self.validation_fraction, int | float) and 0 < self.validation_fraction < 1):
            raise ValueError(
                f"validation_fraction is {self.validation_fraction!r}; give a number between 0 and 1, both excluded"
            )
        kept, held_out = train_test_split(
            np.arange(len(rows)),
            test_size=self.validation_fraction,
            random_state=seed,
            stratify=self._strata(rows.targets),
        )
        return rows.taken(kept), rows.taken(held_out)

    def _rows_of_a_step(self, rows: int) -> int:
        if isinstance(self.batch_size, str):
            if self.batch_size != "auto":
                raise ValueError(f'batch_size is {self.batch_size!r}; give a whole number from 1 on, or "auto"')
            return min(AUTO_BATCH, rows)
        return _whole("batch_size", self.batch_size, 1, BATCH_SIZE_MAX)

    def _network(self, rows_in_a_step: float) -> Model:
        """The network to train: one of the parameters, or a copy of the one given, which stays as it is."""
        if self.network is not None:
            if not isinstance(self.network, Model):
                raise TypeError(f"network is of type {type(self.network).__name__}; give a volary.Model, or None")
            if len(self.network.output_names) != 1:
                raise ValueError(
                    f"network has the outputs {', '.join(self.network.output_names)}; give one of one output here, and train "
                    "this one with its own fit"
                )
            return copy.copy(self.network)
        given = self.hidden_layer_sizes
        sizes = list(given) if isinstance(given, Sequence | np.ndarray) else [given]
        if any(isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1 for size in sizes):
            raise ValueError(f"hidden_layer_sizes is {given!r}; give whole numbers from 1 on")
        if not (isinstance(self.alpha, int | float | np.number) and self.alpha >= 0):
            raise ValueError(f"alpha is {self.alpha!r}; give a number from 0 on")
        penalty = regularizers.L2(float(self.alpha) / (2 * rows_in_a_step)) if self.alpha else None
        units, ending = self._last_layer()
        hidden = [layers.Dense(int(size), activation=self.activation, kernel_regularizer=penalty) for size in sizes]
        return Sequential([*hidden, layers.Dense(units, activation=ending, kernel_regularizer=penalty)])

    def _optimizer(self) -> optimizers.Optimizer:
        """The optimizer of the parameters."""
        given = self.optimizer
        if isinstance(given, optimizers.Optimizer):
            return given
        known = {kind.name: kind for kind in optimizers.Optimizer.__subclasses__()}
        if isinstance(given, str) and given in known:
            return known[given](learning_rate=self.learning_rate)
        raise InvalidArgumentError(
            f"optimizer is {given!r}; give one of volary.optimizers, or a name: {', '.join(known)}"
        )

    def _callbacks(self) -> list[EarlyStopping]:
        """When training ends before its last epoch."""
        if self.tol is None and not self.early_stopping:
            return []
        monitor = "val_loss" if self.early_stopping else "loss"
        return [
            EarlyStopping(
                monitor, self.n_iter_no_change, float(self.tol or 0.0), restore_best_weights=bool(self.early_stopping)
            )
        ]

    def _name(self) -> str:
        """The model's name: generated once for this object, so that its fits are versions of one model."""
        if self.model_name is not None:
            return self.model_name
        former = getattr(self, "model_name_", None)
        prefix = f"sklearn-{type(self).__name__}-"
        return former if former is not None and former.startswith(prefix) else prefix + secrets.token_hex(6)

    # -- the model on the cluster -------------------------------------------------------------------------------

    @property
    def client_(self) -> Client:
        """The connection to the cluster where the model is."""
        return client_of(self.server, getattr(self, "server_", None))

    @property
    def model_(self) -> ServedModel:
        """The committed version on the cluster, which any client may ask, SQL included."""
        check_is_fitted(self)
        return self.client_.model(self.model_name_, self.model_version_)

    @property
    def job_(self) -> JobHandle:
        """The training job."""
        check_is_fitted(self)
        return self.client_.job(self._job)

    def drop_model(self) -> None:
        """Remove the model from the cluster, every version of it; this object cannot predict then until it is fitted again."""
        check_is_fitted(self)
        self.client_.drop_model(self.model_name_)

    def _answers(self, X: Any) -> np.ndarray:
        """The servers' numbers for each row."""
        check_is_fitted(self)
        with np.errstate(over="ignore"):
            X = validate_data(self, X, reset=False, dtype=np.float32)
        answers = self.model_.predict(self._columns.table(X))
        answer = answers[next(name for name in self._answer_columns() if name in answers.column_names)].combine_chunks()
        if pa.types.is_fixed_size_list(answer.type):
            return answer.flatten().to_numpy().reshape(len(answer), -1).astype(np.float64)
        return answer.to_numpy().astype(np.float64)

    def _answer_columns(self) -> tuple[str, ...]:
        """The servers' column that counts: the first of these that is there."""
        return ("prediction",)

    # -- scikit-learn's manners ---------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_name_")

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if self.server is None:
            state["_handed_on"] = hand_on()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        take_over(state.pop("_handed_on", None))
        super().__setstate__(state)


def _beside(training: np.ndarray | None, held_out: TrainingRows) -> np.ndarray | None:
    """Weights of the rows held out: the column is there where the training rows have it."""
    if training is None:
        return None
    weights = held_out.relative_weights()
    return np.ones(len(held_out)) if weights is None else weights


class VolaryClassifier(ClassifierMixin, _VolaryEstimator):
    """A network that tells classes, trained on the cluster."""

    _metrics = ("accuracy",)

    def __init__(
        self,
        server: str | Client | None = None,
        *,
        hidden_layer_sizes: int | Sequence[int] = (64,),
        activation: Any = "relu",
        alpha: float = 0.0001,
        optimizer: Any = "adam",
        learning_rate: Any = 0.001,
        batch_size: Any = "auto",
        epochs: int = 100,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        shuffle: bool = True,
        random_state: Any = None,
        class_weight: Mapping[Any, float] | str | None = None,
        network: Model | None = None,
        loss: Any = None,
        model_name: str | None = None,
        verbose: int = 0,
    ) -> None:
        self.server = server
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.shuffle = shuffle
        self.random_state = random_state
        self.class_weight = class_weight
        self.network = network
        self.loss = loss
        self.model_name = model_name
        self.verbose = verbose

    def _targets(
        self, y: Any, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        check_classification_targets(y)
        self._several = type_of_target(y) == "multilabel-indicator"
        if self._several:
            if self.class_weight is not None:
                raise ValueError("class_weight is given and a row may have several labels; give sample_weight instead")
            self.classes_ = np.arange(y.shape[1])
            self.n_outputs_ = y.shape[1]
            self._label_type = y.dtype
            return y.astype(np.float32), weights, lambda targets: targets
        if y.ndim == 2:
            raise ValueError(
                f"y has {y.shape[1]} columns of classes; give one column, or an indicator matrix of 0 and 1 (multilabel)"
            )
        self.classes_, targets = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of at least two classes, and y has one class alone: "
                f"{self.classes_.tolist()[0]!r}"
            )
        self.n_outputs_ = 1 if len(self.classes_) == 2 else len(self.classes_)
        if self.class_weight is not None:
            weights = weights * self._weight_of_classes(targets, weights)[targets]
        # The cluster's model has the labels themselves, where the servers know such: whoever asks it there gets them too.
        named = self.classes_
        texts = all(isinstance(each, str) for each in named)
        wide = named.dtype.kind == "u" and named.max() > np.iinfo(np.int64).max
        if wide or not (texts or named.dtype.kind in "iub"):
            named = np.arange(len(named))
        values = named.astype(np.int64) if named.dtype.kind in "iu" else named.astype(object)
        return targets, weights, lambda targets: values[targets]

    def _weight_of_classes(self, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if isinstance(self.class_weight, str):
            if self.class_weight != "balanced":
                raise ValueError(f'class_weight is {self.class_weight!r}; give a dict of classes, "balanced", or None')
            of_each = np.bincount(targets, weights=weights)
            return weights.sum() / (len(of_each) * of_each)
        return np.asarray(
            compute_class_weight(dict(self.class_weight), classes=self.classes_, y=self.classes_[targets])
        )

    def _last_layer(self) -> tuple[int, str | None]:
        return self.n_outputs_, "sigmoid" if self._several or self.n_outputs_ == 1 else "softmax"

    def _default_loss(self) -> str:
        units = self.n_outputs_ if self.network is None else self.network.output_shape[-1]
        return "binary_crossentropy" if self._several or units == 1 else "sparse_categorical_crossentropy"

    def _strata(self, targets: np.ndarray) -> np.ndarray | None:
        return None if self._several else targets

    def _answer_columns(self) -> tuple[str, ...]:
        return ("prediction",) if self._several else ("probabilities", "probability")

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of `classes_`; where a row may have several labels, the probability of each.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
        """
        answers = self._answers(X)
        if self._several:
            return answers
        if answers.ndim == 1:  # two classes: the probability of the second
            return np.column_stack([1.0 - answers, answers])
        return answers / answers.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        probabilities = self.predict_proba(X)
        if self._several:
            return (probabilities > 0.5).astype(self._label_type)
        return self.classes_[probabilities.argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class VolaryRegressor(RegressorMixin, _VolaryEstimator):
    """A network that tells numbers, trained on the cluster."""

    def __init__(
        self,
        server: str | Client | None = None,
        *,
        hidden_layer_sizes: int | Sequence[int] = (64,),
        activation: Any = "relu",
        alpha: float = 0.0001,
        optimizer: Any = "adam",
        learning_rate: Any = 0.001,
        batch_size: Any = "auto",
        epochs: int = 100,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        shuffle: bool = True,
        random_state: Any = None,
        network: Model | None = None,
        loss: Any = None,
        model_name: str | None = None,
        verbose: int = 0,
    ) -> None:
        self.server = server
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.shuffle = shuffle
        self.random_state = random_state
        self.network = network
        self.loss = loss
        self.model_name = model_name
        self.verbose = verbose

    def _targets(
        self, y: Any, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        return float32("y", y), weights, lambda targets: targets

    def _last_layer(self) -> tuple[int, str | None]:
        return self.n_outputs_, None

    def _default_loss(self) -> str:
        return "mean_squared_error"

    def predict(self, X: Any) -> np.ndarray:
        """The number, or the numbers, of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._answers(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


VolaryClassifier.__doc__ = str(VolaryClassifier.__doc__) + _PARAMETERS.format(
    class_weight="""
    class_weight : dict, "balanced" or None, default=None
        What each class counts in the loss; "balanced": all classes count the same together.""",
    ending="a sigmoid unit for two classes, or in a softmax of one unit for each class",
    loss="the cross-entropy",
    classes="""
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted; the order of the columns of predict_proba.""",
)
VolaryRegressor.__doc__ = str(VolaryRegressor.__doc__) + _PARAMETERS.format(
    class_weight="", ending="a unit for each number that is predicted", loss="the mean squared error", classes=""
)

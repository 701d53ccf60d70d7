"""Makes census.json: what scikit-learn, pandas and numpy say each transform does to the census rows.

Run from the repository's root:  python tests/golden/pipelines/make.py
Made with scikit-learn 1.9.1, pandas 3.1.1, numpy 2.4.6, pyarrow 26.0.1, Python 3.11; the file says so itself.
"""

import json
import platform
from pathlib import Path

import numpy
import pandas
import pyarrow
import pyarrow.parquet
import sklearn
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import KBinsDiscretizer, MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.utils import murmurhash3_32

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

table = pyarrow.parquet.read_table(ROOT / "examples/data/census_train.parquet")
census = {name: numpy.array(table[name].to_pylist(), dtype=object) for name in table.column_names}
NUMBERS = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
TEXTS = ["workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country"]
for name in NUMBERS:
    census[name] = census[name].astype(numpy.float64)
ROWS = list(range(0, table.num_rows, 271))
EVERY = numpy.ones(table.num_rows, dtype=bool)
OLD = census["age"] > 65

cases = []


def case(name, features, steps, expected, filter=None):
    """Expected columns: floats as they are; indices as integers; one-hot as (slots, place or -1)."""
    columns = {}
    for column, values in expected.items():
        if isinstance(values, tuple):
            slots, places = values
            columns[column] = {"slots": int(slots), "places": [int(places[row]) for row in ROWS]}
        elif numpy.asarray(values).dtype.kind in "iu":
            columns[column] = {"indices": [int(values[row]) for row in ROWS]}
        else:
            columns[column] = {"floats": [float(f"{float(values[row]):.9g}") for row in ROWS]}
    cases.append({"name": name, "features": features, "steps": steps, "filter": filter, "expected": columns})


def column(values):
    return numpy.asarray(values).reshape(-1, 1)


def missing(values):
    """What NULLIF(x, 0) leaves."""
    return numpy.where(values == 0, numpy.nan, values)


# impute
NULLIF = {"transform": "expression", "name": "capital_gain", "sql": "NULLIF(capital_gain, 0)"}
for strategy in ["mean", "median", "most_frequent"]:
    imputer = SimpleImputer(strategy=strategy).fit(column(missing(census["capital_gain"])))
    case(
        f"impute {strategy}",
        ["capital_gain"],
        [NULLIF, {"transform": "impute", "columns": ["capital_gain"], "strategy": strategy}],
        {"capital_gain": imputer.transform(column(missing(census["capital_gain"])))[:, 0]},
    )
case(
    "impute constant",
    ["capital_gain"],
    [NULLIF, {"transform": "impute", "columns": ["capital_gain"], "strategy": "constant", "fill_value": -2.5}],
    {"capital_gain": SimpleImputer(strategy="constant", fill_value=-2.5).fit_transform(column(missing(census["capital_gain"])))[:, 0]},
)

# standardize, min_max, log1p, clip
case(
    "standardize",
    NUMBERS,
    [{"transform": "standardize", "columns": NUMBERS}],
    {name: StandardScaler().fit_transform(column(census[name]))[:, 0] for name in NUMBERS},
)
case(
    "min_max, fitted to some of the rows",
    NUMBERS,
    [{"transform": "min_max", "columns": NUMBERS}],
    {name: MinMaxScaler().fit(column(census[name][OLD])).transform(column(census[name]))[:, 0] for name in NUMBERS},
    filter="age > 65",
)
case(
    "log1p and clip",
    ["capital_gain", "hours_per_week"],
    [
        {"transform": "log1p", "columns": ["capital_gain"]},
        {"transform": "clip", "columns": ["hours_per_week"], "min": 20, "max": 60},
        {"transform": "clip", "columns": ["capital_gain"], "max": 9},
    ],
    {
        "capital_gain": numpy.clip(numpy.log1p(census["capital_gain"]), None, 9),
        "hours_per_week": numpy.clip(census["hours_per_week"], 20, 60),
    },
)


# one_hot: None is a category of scikit-learn's too, the last one
def one_hot(name, rows, bucket, **options):
    values = column(census[name])
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(values[rows])
    encoded = encoder.transform(values)
    slots = encoded.shape[1]
    places = numpy.where(encoded.any(axis=1), encoded.argmax(axis=1), slots if bucket else -1)
    return slots + int(bucket), places


case(
    "one_hot",
    TEXTS,
    [{"transform": "one_hot", "columns": TEXTS, "handle_unknown": "ignore"}],
    {name: one_hot(name, EVERY, False) for name in TEXTS},
)
for unknown in ["ignore", "bucket"]:
    case(
        f"one_hot, fitted to some of the rows, unknown to {unknown}",
        TEXTS,
        [{"transform": "one_hot", "columns": TEXTS, "handle_unknown": unknown}],
        {name: one_hot(name, OLD, unknown == "bucket") for name in TEXTS},
        filter="age > 65",
    )
workclass = SimpleImputer(missing_values=None, strategy="constant", fill_value="Missing").fit_transform(column(census["workclass"]))
occupation = SimpleImputer(missing_values=None, strategy="most_frequent").fit_transform(column(census["occupation"]))
encode = lambda values: OneHotEncoder(sparse_output=False).fit_transform(values)
case(
    "text imputed, then one_hot",
    ["workclass", "occupation"],
    [
        {"transform": "impute", "columns": ["workclass"], "strategy": "constant", "fill_value": "Missing"},
        {"transform": "impute", "columns": ["occupation"], "strategy": "most_frequent"},
        {"transform": "one_hot", "columns": ["workclass", "occupation"], "handle_unknown": "ignore"},
    ],
    {
        "workclass": (encode(workclass).shape[1], encode(workclass).argmax(axis=1)),
        "occupation": (encode(occupation).shape[1], encode(occupation).argmax(axis=1)),
    },
)
education_num = column(census["education_num"].astype(numpy.int64))
case(
    "one_hot of integers",
    ["education_num"],
    [{"transform": "one_hot", "columns": ["education_num"], "handle_unknown": "ignore"}],
    {"education_num": (encode(education_num).shape[1], encode(education_num).argmax(axis=1))},
)


# string_index: pandas counts
def string_index(name, most=None, least=None):
    counts = pandas.Series([v for v in census[name] if v is not None]).value_counts()
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = [value for value, count in order if least is None or count >= least][:most]
    places = {value: place + 1 for place, value in enumerate(kept)}
    return numpy.array([places.get(value, 0) for value in census[name]], dtype=numpy.int64)


case("string_index", TEXTS, [{"transform": "string_index", "columns": TEXTS}], {name: string_index(name) for name in TEXTS})
case(
    "string_index with limits",
    TEXTS,
    [{"transform": "string_index", "columns": TEXTS, "max_categories": 6, "min_frequency": 100}],
    {name: string_index(name, 6, 100) for name in TEXTS},
)


# hash and cross
def hashed(texts, buckets):
    return numpy.array([murmurhash3_32(text, seed=0, positive=True) % buckets for text in texts], dtype=numpy.int64)


def as_text(values):
    return ["\0" if value is None else str(value) for value in values]


case(
    "hash",
    ["workclass", "native_country", "age"],
    [{"transform": "hash", "columns": ["workclass", "native_country", "age"], "buckets": 50}],
    {
        "workclass": hashed(as_text(census["workclass"]), 50),
        "native_country": hashed(as_text(census["native_country"]), 50),
        "age": hashed(as_text(census["age"].astype(numpy.int64)), 50),
    },
)
case(
    "cross",
    ["education", "occupation", "age"],
    [
        {"transform": "bucketize", "columns": ["age"], "boundaries": [25, 40, 60]},
        {"transform": "cross", "columns": ["education", "occupation", "age"], "name": "all_three", "buckets": 1000},
        {"transform": "drop", "columns": ["education", "occupation"]},
    ],
    {
        "age": numpy.digitize(census["age"], [25, 40, 60]),
        "all_three": hashed(
            [
                "\x1f".join(parts)
                for parts in zip(
                    as_text(census["education"]),
                    as_text(census["occupation"]),
                    as_text(numpy.digitize(census["age"], [25, 40, 60])),
                )
            ],
            1000,
        ),
    },
)


# bucketize by quantiles: numpy's linear rule; KBinsDiscretizer agrees where no edge is met twice
def quantile_edges(values, buckets):
    return numpy.unique(numpy.quantile(values, numpy.arange(1, buckets) / buckets))


fnlwgt = numpy.digitize(census["fnlwgt"], quantile_edges(census["fnlwgt"], 10))
bins = KBinsDiscretizer(n_bins=10, encode="ordinal", strategy="quantile", quantile_method="linear", subsample=None)
assert (bins.fit_transform(column(census["fnlwgt"]))[:, 0] == fnlwgt).all()
case(
    "bucketize by quantiles",
    ["fnlwgt", "hours_per_week"],
    [
        {"transform": "bucketize", "columns": ["fnlwgt"], "quantiles": 10},
        {"transform": "bucketize", "columns": ["hours_per_week"], "quantiles": 7},
    ],
    {
        "fnlwgt": fnlwgt,
        "hours_per_week": numpy.digitize(census["hours_per_week"], quantile_edges(census["hours_per_week"], 7)),
    },
)

# expression
case(
    "expression",
    ["capital_gain", "capital_loss", "sex", "hours_per_week"],
    [
        {"transform": "standardize", "columns": ["hours_per_week"]},
        {"transform": "expression", "name": "net", "sql": "capital_gain - 2 * capital_loss"},
        {"transform": "expression", "name": "is_male", "sql": "lower(sex) = 'male'"},
        {"transform": "expression", "name": "net_hours", "sql": "net * hours_per_week / 1000.0"},
        {"transform": "min_max", "columns": ["net_hours"]},
        {"transform": "drop", "columns": ["capital_gain", "capital_loss", "sex"]},
    ],
    {
        "hours_per_week": (hours := StandardScaler().fit_transform(column(census["hours_per_week"]))[:, 0]),
        "net": (net := census["capital_gain"] - 2 * census["capital_loss"]),
        "is_male": (census["sex"] == "Male").astype(numpy.float64),
        "net_hours": MinMaxScaler().fit_transform(column(net * hours / 1000.0))[:, 0],
    },
)

# the census model's own pipeline: stages that depend on each other
case(
    "the census pipeline",
    NUMBERS + TEXTS,
    [
        {"transform": "impute", "columns": NUMBERS, "strategy": "median"},
        {"transform": "log1p", "columns": ["capital_gain", "capital_loss"]},
        {"transform": "standardize", "columns": NUMBERS},
        {"transform": "one_hot", "columns": TEXTS, "handle_unknown": "ignore"},
    ],
    {
        **{
            name: StandardScaler().fit_transform(
                column(numpy.log1p(census[name]) if name.startswith("capital") else census[name])
            )[:, 0]
            for name in NUMBERS
        },
        **{name: one_hot(name, EVERY, False) for name in TEXTS},
    },
)

versions = {
    "python": platform.python_version(),
    "numpy": numpy.__version__,
    "pandas": pandas.__version__,
    "pyarrow": pyarrow.__version__,
    "scikit-learn": sklearn.__version__,
}
(HERE / "census.json").write_text(json.dumps({"versions": versions, "rows": ROWS, "cases": cases}, separators=(",", ":")) + "\n")

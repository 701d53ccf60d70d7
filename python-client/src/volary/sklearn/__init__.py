"""Estimators for scikit-learn whose networks are trained, kept and asked on the cluster. Needs ``pip install volary[sklearn]``.

>>> from sklearn.model_selection import GridSearchCV
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import StandardScaler
>>> from volary.sklearn import VolaryClassifier
>>> pipeline = make_pipeline(StandardScaler(), VolaryClassifier("grpc://127.0.0.1:50051", epochs=20))
>>> search = GridSearchCV(pipeline, {"volaryclassifier__hidden_layer_sizes": [(32,), (64, 32)]})
>>> search.fit(X, y).best_estimator_.predict(X)  # doctest: +SKIP

What an estimator learns it learns there: here are the name and the version of the model, its classes and its history. Nothing
here knows Flight or the messages; it is :class:`volary.Model` with scikit-learn's manners.
"""

from .connecting import SERVER_VARIABLE
from .estimators import VolaryClassifier, VolaryRegressor

__all__ = ["SERVER_VARIABLE", "VolaryClassifier", "VolaryRegressor"]

"""What `transform` of Spark rows is measured against: pandas and onnxruntime within a task, by mapInPandas or mapInArrow.

Imported in Spark's workers, whose Python is the peers'; the driver only names the classes. The features and the network are
those of `onnx_scoring.py`; where a model has no pipeline, its inputs are columns of numbers in their order.
"""

import functools
from dataclasses import dataclass


@dataclass(frozen=True)
class Scoring:
    """The network of a file of weights. `training` has the rows that its features were learned from; none: plain numbers."""

    weights: str
    numbers: tuple[str, ...] = ()
    training: str | None = None

    @functools.cache
    def prepared(self):
        """The session, and the function from a record batch to its input; once for each worker, which Spark keeps for further tasks.

        One thread: Spark runs a task on each core.
        """
        import numpy as np
        import pyarrow.parquet as pq
        from onnx_scoring import CATEGORIES, NUMBERS, Features, network
        from safetensors.numpy import load_file

        weights = load_file(self.weights)
        if self.training is None:
            return network(len(self.numbers), 1, weights), lambda frame: frame[list(self.numbers)].to_numpy(np.float32)
        features = Features(pq.read_table(self.training, columns=NUMBERS + CATEGORIES))
        return network(features.width, 1, weights), features.matrix

    def of_pandas(self, frames):
        """mapInPandas: every frame again, with a column of probabilities."""
        import pyarrow as pa

        session, matrix = self.prepared()
        for frame in frames:
            # Arrow looks categories up several times as fast as pandas does.
            rows = frame if self.training is None else pa.RecordBatch.from_pandas(frame, preserve_index=False)
            yield frame.assign(probability=session.run(None, {"rows": matrix(rows)})[0][:, 0].astype("float64"))

    def of_arrow(self, batches):
        """mapInArrow: every batch again, with a column of probabilities."""
        import numpy as np
        import pyarrow as pa

        session, matrix = self.prepared()
        for batch in batches:
            if self.training is None:
                columns = [batch[name].to_numpy(zero_copy_only=False) for name in self.numbers]
                rows = np.stack(columns, axis=1).astype(np.float32)
            else:
                rows = matrix(batch)
            probability = session.run(None, {"rows": rows})[0][:, 0].astype(np.float64)
            yield pa.RecordBatch.from_arrays([*batch.columns, pa.array(probability)], [*batch.schema.names, "probability"])

    def nothing(self, batches):
        """mapInArrow: every batch as it came, which is what both sides cost before they compute."""
        yield from batches

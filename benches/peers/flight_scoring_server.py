"""A Flight server that answers DoExchange by a small dense network in NumPy: the peer of `exchange`.

    python benches/peers/flight_scoring_server.py WEIGHTS.safetensors [PORT]

The network is `dense_0` with ReLU, then `dense_1`; the incoming columns are its inputs in their order. A batch is answered by a
batch with the column `prediction`, a message without a batch by itself; metadata are echoed, as Volary does.
"""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
from safetensors.numpy import load_file

ANSWER = pa.schema([pa.field("prediction", pa.float32())])


class ScoringServer(flight.FlightServerBase):
    def __init__(self, location, weights):
        super().__init__(location)
        self.layers = [(weights[f"dense_{layer}/kernel"], weights[f"dense_{layer}/bias"]) for layer in range(2)]

    def do_exchange(self, context, descriptor, reader, writer):
        (first, first_bias), (second, second_bias) = self.layers
        writer.begin(ANSWER)
        for chunk in reader:
            if chunk.data is None:
                writer.write_metadata(chunk.app_metadata)
                continue
            rows = np.column_stack([column.to_numpy(zero_copy_only=False) for column in chunk.data.columns]).astype(np.float32)
            answer = np.maximum(rows @ first + first_bias, 0) @ second + second_bias
            writer.write_with_metadata(pa.record_batch([pa.array(answer[:, 0])], schema=ANSWER), chunk.app_metadata)


if __name__ == "__main__":
    server = ScoringServer(f"grpc://127.0.0.1:{sys.argv[2] if len(sys.argv) > 2 else 0}", load_file(sys.argv[1]))
    print("listening", server.port, flush=True)
    server.serve()

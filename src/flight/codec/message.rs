//! A Flight message on its way out, in the pieces of memory that its columns lie in.
//!
//! `FlightData` holds a body as one run of bytes, which costs a copy of every value, and its encoder costs another.
//! Here a body stays a list of Arrow buffers down to the socket; only what is small is gathered.

use arrow::buffer::Buffer;
use arrow_flight::FlightData;
use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// A piece shorter than this is cheaper to copy than to send as a frame of its own.
const PIECE_BYTES_MIN: usize = 8 << 10;

/// Field numbers of `FlightData` (arrow, format/Flight.proto).
const DATA_HEADER: u32 = 2;
const APP_METADATA: u32 = 3;
const DATA_BODY: u32 = 1000;

/// `FlightData` of an answer (which has no descriptor) before its body is made one run of bytes.
#[derive(Debug, Clone, Default)]
pub struct FlightMessage {
    pub data_header: Bytes,
    pub app_metadata: Bytes,
    /// The body is these, one after the other.
    pub data_body: Vec<Bytes>,
}

impl FlightMessage {
    pub fn body_bytes(&self) -> usize {
        self.data_body.iter().map(Bytes::len).sum()
    }

    /// The bytes of the message in protobuf's form.
    pub fn encoded_bytes(&self) -> usize {
        field_bytes(DATA_HEADER, self.data_header.len())
            + field_bytes(APP_METADATA, self.app_metadata.len())
            + field_bytes(DATA_BODY, self.body_bytes())
    }

    /// The message in protobuf's form behind `prefix`, in pieces to be sent one after the other.
    pub fn into_pieces(self, prefix: &[u8]) -> Vec<Bytes> {
        let body_bytes = self.body_bytes();
        let mut pieces = Vec::with_capacity(self.data_body.len() + 1);
        let mut gathered = BytesMut::with_capacity(
            prefix.len() + self.encoded_bytes() - body_bytes.saturating_sub(PIECE_BYTES_MIN),
        );
        gathered.put_slice(prefix);
        for (field, bytes) in [
            (DATA_HEADER, &self.data_header),
            (APP_METADATA, &self.app_metadata),
        ] {
            begin_field(field, bytes.len(), &mut gathered);
            gathered.put_slice(bytes);
        }
        begin_field(DATA_BODY, body_bytes, &mut gathered);
        for piece in self.data_body {
            if piece.len() < PIECE_BYTES_MIN {
                gathered.put_slice(&piece);
            } else {
                if !gathered.is_empty() {
                    pieces.push(gathered.split().freeze());
                }
                pieces.push(piece);
            }
        }
        if !gathered.is_empty() {
            pieces.push(gathered.freeze());
        }
        pieces
    }
}

/// Bytes of a field of this length; an empty one is left out, as proto3 does.
fn field_bytes(field: u32, length: usize) -> usize {
    match length {
        0 => 0,
        length => key_len(field) + encoded_len_varint(length as u64) + length,
    }
}

fn begin_field(field: u32, length: usize, out: &mut BytesMut) {
    if length > 0 {
        encode_key(field, WireType::LengthDelimited, out);
        encode_varint(length as u64, out);
    }
}

/// For callers within this program that want the body as one run of bytes; copies it, unless it is one piece.
impl From<FlightMessage> for FlightData {
    fn from(message: FlightMessage) -> Self {
        Self {
            data_header: message.data_header,
            app_metadata: message.app_metadata,
            data_body: match message.data_body.as_slice() {
                [] => Bytes::new(),
                [whole] => whole.clone(),
                pieces => pieces.concat().into(),
            },
            flight_descriptor: None,
        }
    }
}

/// An Arrow buffer as the bytes it holds, without a copy.
pub(super) fn shared_bytes(buffer: Buffer) -> Bytes {
    struct Owner(Buffer);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.as_slice()
        }
    }
    Bytes::from_owner(Owner(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn the_pieces_are_what_protobuf_makes_of_the_same_message() {
        let large = |byte: u8| Bytes::from(vec![byte; PIECE_BYTES_MIN + 3]);
        let bodies = [
            vec![],
            vec![Bytes::from_static(b"small")],
            vec![large(1), large(2)],
            vec![
                Bytes::from_static(b"first"),
                large(3),
                Bytes::from_static(b"a"),
                Bytes::from_static(b"b"),
                large(4),
                Bytes::from_static(b"last"),
            ],
        ];
        for data_body in bodies {
            for (header, metadata) in [("header", ""), ("", "metadata"), ("header", "metadata")] {
                let message = FlightMessage {
                    data_header: Bytes::from_static(header.as_bytes()),
                    app_metadata: Bytes::from_static(metadata.as_bytes()),
                    data_body: data_body.clone(),
                };
                let whole = FlightData::from(message.clone()).encode_to_vec();
                assert_eq!(message.encoded_bytes(), whole.len());
                let pieces = message.into_pieces(b"prefix").concat();
                assert_eq!(pieces, [b"prefix".as_slice(), &whole].concat());
            }
        }
    }

    #[test]
    fn what_is_large_is_not_copied_and_what_is_small_shares_a_piece() {
        let large = Bytes::from(vec![7; PIECE_BYTES_MIN]);
        let message = FlightMessage {
            data_body: vec![
                Bytes::from_static(b"a"),
                Bytes::from_static(b"b"),
                large.clone(),
                Bytes::from_static(b"c"),
            ],
            ..FlightMessage::default()
        };
        let pieces = message.into_pieces(&[]);
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), large.as_ptr());
    }
}

//! A Flight message on its way out, in the pieces of memory that its columns lie in.
//!
//! `FlightData` holds a body as one run of bytes, which costs a copy of every value, and its encoder costs another.
//! Here a body stays a list of Arrow buffers down to the socket; only what is small is gathered.

use std::collections::VecDeque;
use std::io::IoSlice;

use arrow::buffer::Buffer;
use arrow_flight::FlightData;
use bytes::{Buf, BufMut, Bytes, BytesMut};
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
    pub fn into_pieces(self, prefix: &[u8]) -> Pieces {
        let body_bytes = self.body_bytes();
        let mut pieces = VecDeque::with_capacity(self.data_body.len() + 1);
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
                    pieces.push_back(gathered.split().freeze());
                }
                pieces.push_back(piece);
            }
        }
        if !gathered.is_empty() {
            pieces.push_back(gathered.freeze());
        }
        Pieces(pieces)
    }
}

/// Bytes in several places of memory, to be sent one after the other. No piece is empty.
#[derive(Debug, Default)]
pub struct Pieces(VecDeque<Bytes>);

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Self(
            Some(bytes)
                .filter(|bytes| !bytes.is_empty())
                .into_iter()
                .collect(),
        )
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.0);
        pairs
            .map(|(slice, piece)| *slice = IoSlice::new(piece))
            .count()
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let piece = self
                .0
                .front_mut()
                .expect("no more than what remains is taken");
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.0.pop_front();
        }
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
                let mut pieces = message.into_pieces(b"prefix");
                assert_eq!(pieces.remaining(), b"prefix".len() + whole.len());
                let sent = pieces.copy_to_bytes(pieces.remaining());
                assert_eq!(sent, [b"prefix".as_slice(), &whole].concat());
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
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(pieces.chunks_vectored(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
    }

    #[test]
    fn pieces_that_are_sent_bit_by_bit_are_all_sent_in_their_order() {
        let whole: Vec<u8> = (0..=255).collect();
        for step in [1, 3, 64, 100, 256] {
            let mut pieces = Pieces(whole.chunks(60).map(Bytes::copy_from_slice).collect());
            let mut sent = Vec::new();
            while pieces.has_remaining() {
                // As a socket takes them: some bytes of a list of slices.
                let mut slices = [IoSlice::new(&[]); 2];
                let count = pieces.chunks_vectored(&mut slices);
                let offered: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
                let taken = step.min(offered.len());
                sent.extend_from_slice(&offered[..taken]);
                pieces.advance(taken);
            }
            assert_eq!(sent, whole);
            assert!(pieces.chunk().is_empty());
        }
    }
}

//! Signed tickets and prepared-statement handles.
//!
//! They travel through the client and may come back to any server of the cluster, so they carry all that is needed
//! and a tag that only the cluster's key can make. No server keeps state for them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

use super::error::FlightError;
use super::proto::v1::peer::{SessionBody, Statement, TicketBody, ticket_body::Rows};

const TAG_BYTES: usize = 32;

/// First bytes of each kind; part of what is signed, so that one kind never passes for the other.
const TICKET: &[u8; 4] = b"VLT1";
const HANDLE: &[u8; 4] = b"VLH1";
const SESSION: &[u8; 4] = b"VLS1";

/// What a ticket of this cluster stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedTicket {
    pub rows: Rows,
    /// No other ticket has it, but for those that this one was renewed from or to.
    pub id: Bytes,
    pub expires: SystemTime,
}

/// Makes and checks tickets with the cluster's key.
#[derive(Clone)]
pub struct Signer {
    key: [u8; 32],
    lifetime: Duration,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

impl Signer {
    pub fn new(key: [u8; 32], lifetime: Duration) -> Self {
        Self { key, lifetime }
    }

    /// A ticket for `rows` that expires after the lifetime, counted from `now`.
    pub fn ticket(&self, rows: Rows, now: SystemTime) -> (Bytes, SystemTime) {
        let id = uuid::Uuid::now_v7().as_bytes().to_vec();
        self.ticket_of(rows, id.into(), now)
    }

    /// The same ticket for another lifetime, counted from `now`.
    pub fn renew(&self, ticket: OpenedTicket, now: SystemTime) -> (Bytes, SystemTime) {
        self.ticket_of(ticket.rows, ticket.id, now)
    }

    /// The same key for tickets that last for another time.
    #[must_use]
    pub fn with_lifetime(&self, lifetime: Duration) -> Self {
        Self {
            lifetime,
            ..self.clone()
        }
    }

    /// How long a ticket may be read.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    fn ticket_of(&self, rows: Rows, id: Bytes, now: SystemTime) -> (Bytes, SystemTime) {
        let expires = now + self.lifetime;
        let body = TicketBody {
            rows: Some(rows),
            expires_ms: milliseconds(expires),
            id,
        };
        (self.sign(TICKET, &body.encode_to_vec()), expires)
    }

    /// Whether `bytes` claim to be a signed ticket.
    pub fn is_ticket(bytes: &[u8]) -> bool {
        bytes.starts_with(TICKET)
    }

    /// What a ticket stands for, if this cluster made it and it has not expired.
    pub fn open_ticket(&self, bytes: &Bytes, now: SystemTime) -> Result<OpenedTicket, FlightError> {
        let body = self.verify(TICKET, bytes).ok_or(FlightError::BadTicket {
            reason: "its signature is wrong",
        })?;
        let body = TicketBody::decode(body).map_err(|_| FlightError::BadTicket {
            reason: "its content cannot be read",
        })?;
        if body.expires_ms != 0 && body.expires_ms < milliseconds(now) {
            return Err(FlightError::ExpiredTicket);
        }
        let rows = body.rows.ok_or(FlightError::BadTicket {
            reason: "its content is of another version",
        })?;
        Ok(OpenedTicket {
            rows,
            id: body.id,
            expires: UNIX_EPOCH + Duration::from_millis(body.expires_ms),
        })
    }

    /// A prepared statement's handle: good on every server, until the cluster's key changes.
    pub fn handle(&self, statement: &Statement) -> Bytes {
        self.sign(HANDLE, &statement.encode_to_vec())
    }

    pub fn open_handle(&self, bytes: &Bytes) -> Result<Statement, FlightError> {
        let body = self.verify(HANDLE, bytes).ok_or(FlightError::BadHandle)?;
        Statement::decode(body).map_err(|_| FlightError::BadHandle)
    }

    /// What a session's cookie holds.
    pub fn session(&self, session: &SessionBody) -> Bytes {
        self.sign(SESSION, &session.encode_to_vec())
    }

    pub fn open_session(&self, bytes: &Bytes) -> Option<SessionBody> {
        SessionBody::decode(self.verify(SESSION, bytes)?).ok()
    }

    fn sign(&self, kind: &[u8; 4], body: &[u8]) -> Bytes {
        let tag = self.mac(kind, body).finalize().into_bytes();
        [&kind[..], &tag[..], body].concat().into()
    }

    fn verify(&self, kind: &[u8; 4], bytes: &Bytes) -> Option<Bytes> {
        let start = kind.len() + TAG_BYTES;
        if !bytes.starts_with(kind) || bytes.len() < start {
            return None;
        }
        let body = bytes.slice(start..);
        self.mac(kind, &body)
            .verify_slice(&bytes[kind.len()..start])
            .ok()?;
        Some(body)
    }

    fn mac(&self, kind: &[u8; 4], body: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any size");
        mac.update(kind);
        mac.update(body);
        mac
    }
}

#[allow(clippy::cast_possible_truncation)]
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(key: u8) -> Signer {
        Signer::new([key; 32], Duration::from_secs(60))
    }

    #[test]
    fn a_ticket_opens_on_every_server_with_the_key_until_it_expires() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let rows = Rows::History("census".to_owned());
        let (ticket, expires) = signer(1).ticket(rows.clone(), now);
        assert_eq!(signer(1).open_ticket(&ticket, now).unwrap().rows, rows);
        assert_eq!(signer(1).open_ticket(&ticket, expires).unwrap().rows, rows);
        let late = expires + Duration::from_millis(1);
        assert!(matches!(
            signer(1).open_ticket(&ticket, late),
            Err(FlightError::ExpiredTicket)
        ));
        assert!(signer(2).open_ticket(&ticket, now).is_err());
    }

    #[test]
    fn a_renewed_ticket_is_the_same_one_for_longer() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let signer = signer(1);
        let (ticket, expires) = signer.ticket(Rows::History("census".to_owned()), now);
        let opened = signer.open_ticket(&ticket, now).unwrap();
        let later = now + Duration::from_secs(40);
        let (renewed, expires_then) = signer.renew(opened.clone(), later);
        assert!(expires_then > expires);
        let reopened = signer.open_ticket(&renewed, expires_then).unwrap();
        assert_eq!((reopened.rows, reopened.id), (opened.rows, opened.id));
        let (other, _) = signer.ticket(Rows::History("census".to_owned()), now);
        assert_ne!(other, ticket);
    }

    #[test]
    fn no_changed_bit_passes() {
        let now = SystemTime::now();
        let (ticket, _) = signer(1).ticket(Rows::History("x".to_owned()), now);
        for bit in 0..ticket.len() * 8 {
            let mut bytes = ticket.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(
                signer(1).open_ticket(&bytes.into(), now).is_err(),
                "bit {bit}"
            );
        }
        for length in 0..ticket.len() {
            assert!(signer(1).open_ticket(&ticket.slice(..length), now).is_err());
        }
    }

    #[test]
    fn a_handle_is_not_a_ticket() {
        let statement = Statement {
            sql: "SELECT $1".to_owned(),
            parameters: Bytes::from_static(b"abc"),
        };
        let handle = signer(1).handle(&statement);
        assert_eq!(signer(1).open_handle(&handle).unwrap(), statement);
        let mut forged = handle.to_vec();
        forged[..4].copy_from_slice(TICKET);
        assert!(
            signer(1)
                .open_ticket(&forged.into(), SystemTime::now())
                .is_err()
        );
    }
}

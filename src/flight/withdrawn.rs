//! What is good no more although its signature is: cancelled tickets and closed sessions, each until it would have expired.
//!
//! This is one server's memory alone. `verbs/cancel.rs` tells the other servers, and a server that joins them asks what it
//! missed (`verbs/withdrawn.rs`). Knows no reads: `reads.rs` stops those.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;

use super::error::FlightError;
use super::proto::v1::peer::{Withdrawn as WithdrawnMessage, WithdrawnId};
use super::ticket::milliseconds;

/// Cancelled tickets kept at a time.
const TICKETS_MAX: usize = 100_000;

/// Closed sessions kept at a time: a session lasts longer than a ticket, so they gather for longer.
const SESSIONS_MAX: usize = 100_000;

/// Ids in one message to another server: about 200 KB.
const IDS_PER_MESSAGE: usize = 4096;

/// Ids that are good no more. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Withdrawn {
    tickets: Arc<Mutex<Ids>>,
    sessions: Arc<Mutex<Ids>>,
}

impl Default for Withdrawn {
    fn default() -> Self {
        let ids = |what, limit| {
            Arc::new(Mutex::new(Ids {
                until: HashMap::new(),
                what,
                limit,
            }))
        };
        Self {
            tickets: ids("cancelled tickets", TICKETS_MAX),
            sessions: ids("closed sessions", SESSIONS_MAX),
        }
    }
}

impl Withdrawn {
    /// Makes the ticket of this id good no more until it would have expired.
    pub(super) fn add_ticket(
        &self,
        id: &Bytes,
        expires: SystemTime,
        now: SystemTime,
    ) -> Result<(), FlightError> {
        self.tickets.lock().add(id.clone(), expires, now)
    }

    pub(super) fn has_ticket(&self, id: &Bytes) -> bool {
        self.tickets.lock().until.contains_key(id)
    }

    /// Makes the cookie of this session good no more until it would have expired.
    pub(super) fn add_session(
        &self,
        id: &str,
        expires: SystemTime,
        now: SystemTime,
    ) -> Result<(), FlightError> {
        let id = Bytes::copy_from_slice(id.as_bytes());
        self.sessions.lock().add(id, expires, now)
    }

    pub(super) fn has_session(&self, id: &str) -> bool {
        self.sessions.lock().until.contains_key(id.as_bytes())
    }

    /// All that has not expired, for another server.
    pub(super) fn messages(&self, now: SystemTime) -> Vec<WithdrawnMessage> {
        let tickets = self.tickets.lock().unexpired(now);
        let sessions = self.sessions.lock().unexpired(now);
        let tickets = tickets
            .chunks(IDS_PER_MESSAGE)
            .map(|tickets| WithdrawnMessage {
                tickets: tickets.to_vec(),
                sessions: Vec::new(),
            });
        let sessions = sessions
            .chunks(IDS_PER_MESSAGE)
            .map(|sessions| WithdrawnMessage {
                tickets: Vec::new(),
                sessions: sessions.to_vec(),
            });
        tickets.chain(sessions).collect()
    }

    /// Takes over what another server has withdrawn.
    pub(super) fn take(
        &self,
        message: WithdrawnMessage,
        now: SystemTime,
    ) -> Result<(), FlightError> {
        for (mine, theirs) in [
            (&self.tickets, message.tickets),
            (&self.sessions, message.sessions),
        ] {
            let mut mine = mine.lock();
            for WithdrawnId { id, expires_ms } in theirs {
                let expires = UNIX_EPOCH.checked_add(Duration::from_millis(expires_ms));
                if let Some(expires) = expires.filter(|expires| *expires >= now) {
                    mine.add(id, expires, now)?;
                }
            }
        }
        Ok(())
    }
}

/// Ids of one kind, and when each may be forgotten.
#[derive(Debug)]
struct Ids {
    until: HashMap<Bytes, SystemTime>,
    what: &'static str,
    limit: usize,
}

impl Ids {
    fn add(&mut self, id: Bytes, expires: SystemTime, now: SystemTime) -> Result<(), FlightError> {
        if let Some(until) = self.until.get_mut(&id) {
            *until = expires.max(*until);
            return Ok(());
        }
        if self.until.len() >= self.limit {
            self.until.retain(|_, expires| *expires >= now);
        }
        if self.until.len() >= self.limit {
            return Err(FlightError::TooManyWithdrawn {
                what: self.what,
                limit: self.limit,
            });
        }
        self.until.insert(id, expires);
        Ok(())
    }

    fn unexpired(&self, now: SystemTime) -> Vec<WithdrawnId> {
        let unexpired = self.until.iter().filter(|(_, expires)| **expires >= now);
        let message = |(id, expires): (&Bytes, &SystemTime)| WithdrawnId {
            id: id.clone(),
            expires_ms: milliseconds(*expires),
        };
        unexpired.map(message).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(number: usize) -> Bytes {
        Bytes::copy_from_slice(&number.to_le_bytes())
    }

    #[test]
    fn tickets_and_sessions_have_bounds_of_their_own_and_are_forgotten_when_they_have_expired() {
        let withdrawn = Withdrawn::default();
        let now = SystemTime::now();
        for number in 0..TICKETS_MAX {
            withdrawn.add_ticket(&id(number), now, now).unwrap();
        }
        let refused = withdrawn.add_ticket(&id(TICKETS_MAX), now, now);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("cancelled tickets"), "{refused}");
        // One that is there already may be cancelled again, and sessions may be closed.
        withdrawn.add_ticket(&id(0), now + SECOND, now).unwrap();
        withdrawn.add_session("mine", now, now).unwrap();
        assert!(withdrawn.has_session("mine") && !withdrawn.has_session("yours"));

        let later = now + Duration::from_millis(1);
        withdrawn
            .add_ticket(&id(TICKETS_MAX), later, later)
            .unwrap();
        assert_eq!(withdrawn.tickets.lock().until.len(), 2);
        assert!(withdrawn.has_ticket(&id(0)) && withdrawn.has_ticket(&id(TICKETS_MAX)));
        assert!(withdrawn.has_session("mine"));
    }

    #[test]
    fn another_server_takes_over_all_that_has_not_expired() {
        let (mine, other) = (Withdrawn::default(), Withdrawn::default());
        let now = SystemTime::now();
        for number in 0..2 * IDS_PER_MESSAGE + 1 {
            mine.add_ticket(&id(number), now + SECOND, now).unwrap();
        }
        mine.add_ticket(&Bytes::from_static(b"expired"), now - SECOND, now)
            .unwrap();
        mine.add_session("closed", now + SECOND, now).unwrap();
        let messages = mine.messages(now);
        assert_eq!(messages.len(), 4);
        for message in messages {
            other.take(message, now).unwrap();
        }
        assert_eq!(other.tickets.lock().until.len(), 2 * IDS_PER_MESSAGE + 1);
        assert!(other.has_ticket(&id(2 * IDS_PER_MESSAGE)));
        assert!(!other.has_ticket(&Bytes::from_static(b"expired")));
        assert!(other.has_session("closed"));
    }
}

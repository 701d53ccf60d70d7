//! Which tickets are being read at this moment, so that a read can be stopped from outside, and what is good no more
//! although its signature is: cancelled tickets and closed sessions.
//!
//! Both are this server's memory alone; `verbs/cancel.rs` tells the other servers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::error::FlightError;

/// Withdrawn ids kept at a time; each is forgotten when what it names has expired.
const WITHDRAWN_MAX: usize = 100_000;

/// The reads of this server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reads {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By ticket id: how many reads there are, and what stops them.
    running: HashMap<Bytes, (usize, CancellationToken)>,
    withdrawn: HashMap<Bytes, SystemTime>,
}

impl Reads {
    /// Notes that the ticket of this id is read until the answer is dropped. A withdrawn one is refused.
    pub(super) fn begin(&self, id: &Bytes) -> Result<Read, FlightError> {
        let mut state = self.state.lock();
        if state.withdrawn.contains_key(id) {
            return Err(FlightError::CancelledTicket);
        }
        let (readers, stop) = state.running.entry(id.clone()).or_default();
        *readers += 1;
        Ok(Read {
            reads: self.clone(),
            id: id.clone(),
            stop: stop.clone(),
        })
    }

    /// Makes this id good no more until it would have expired, and stops whoever reads it.
    pub(super) fn withdraw(
        &self,
        id: &Bytes,
        expires: SystemTime,
        now: SystemTime,
    ) -> Result<(), FlightError> {
        let mut state = self.state.lock();
        if state.withdrawn.len() >= WITHDRAWN_MAX {
            state.withdrawn.retain(|_, expires| *expires >= now);
        }
        if state.withdrawn.len() >= WITHDRAWN_MAX {
            return Err(FlightError::TooManyCancelled {
                limit: WITHDRAWN_MAX,
            });
        }
        state.withdrawn.insert(id.clone(), expires);
        if let Some((_, stop)) = state.running.get(id) {
            stop.cancel();
        }
        Ok(())
    }

    /// The rows of the ticket of this id, until they end or somebody withdraws it.
    pub async fn rows<T: Send + 'static>(
        &self,
        id: &Bytes,
        rows: impl Future<Output = Result<BoxStream<'static, Result<T, Status>>, Status>>,
    ) -> Result<BoxStream<'static, Result<T, Status>>, Status> {
        let read = self.begin(id)?;
        let mut rows = tokio::select! {
            rows = rows => rows?,
            () = read.stopped() => return Err(FlightError::CancelledRead.into()),
        };
        Ok(async_stream::stream! {
            loop {
                let next = tokio::select! {
                    // The stop first: a query that is faster than its reader always has a message ready.
                    biased;
                    () = read.stopped() => {
                        yield Err(FlightError::CancelledRead.into());
                        return;
                    }
                    next = rows.next() => next,
                };
                match next {
                    Some(message) => yield message,
                    None => return,
                }
            }
        }
        .boxed())
    }

    pub(super) fn is_withdrawn(&self, id: &Bytes) -> bool {
        self.state.lock().withdrawn.contains_key(id)
    }
}

/// One read under way.
#[derive(Debug)]
pub struct Read {
    reads: Reads,
    id: Bytes,
    stop: CancellationToken,
}

impl Read {
    /// Waits until somebody cancels the read.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        let mut state = self.reads.state.lock();
        if let Some((readers, _)) = state.running.get_mut(&self.id) {
            *readers -= 1;
            if *readers == 0 {
                state.running.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_withdrawn_ticket_stops_its_readers_and_takes_no_new_ones() {
        let reads = Reads::default();
        let (mine, other) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        let first = reads.begin(&mine).unwrap();
        let second = reads.begin(&mine).unwrap();
        let untouched = reads.begin(&other).unwrap();
        let now = SystemTime::now();
        reads
            .withdraw(&mine, now + Duration::from_secs(9), now)
            .unwrap();
        first.stopped().await;
        second.stopped().await;
        assert!(matches!(
            reads.begin(&mine),
            Err(FlightError::CancelledTicket)
        ));
        assert!(!untouched.stop.is_cancelled());
        drop((first, second, untouched));
        assert!(reads.state.lock().running.is_empty());
    }

    #[test]
    fn what_was_withdrawn_is_forgotten_when_it_has_expired() {
        let reads = Reads::default();
        let now = SystemTime::now();
        for number in 0..WITHDRAWN_MAX as u32 {
            let id = Bytes::copy_from_slice(&number.to_le_bytes());
            reads.withdraw(&id, now, now).unwrap();
        }
        let id = Bytes::from_static(b"one more");
        assert!(matches!(
            reads.withdraw(&id, now, now),
            Err(FlightError::TooManyCancelled { .. })
        ));
        reads
            .withdraw(&id, now, now + Duration::from_millis(1))
            .unwrap();
        assert_eq!(reads.state.lock().withdrawn.len(), 1);
    }
}

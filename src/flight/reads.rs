//! Which tickets are being read at this moment on this server, so that a read can be stopped from outside.

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
use super::withdrawn::Withdrawn;

/// The reads of this server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reads {
    /// By ticket id: how many reads there are, and what stops them.
    running: Arc<Mutex<HashMap<Bytes, (usize, CancellationToken)>>>,
    withdrawn: Withdrawn,
}

impl Reads {
    /// Reads of tickets, but of those that are withdrawn.
    pub(super) fn new(withdrawn: Withdrawn) -> Self {
        Self {
            running: Arc::default(),
            withdrawn,
        }
    }

    /// Notes that the ticket of this id is read until the answer is dropped. A withdrawn one is refused.
    pub(super) fn begin(&self, id: &Bytes) -> Result<Read, FlightError> {
        let read = {
            let mut running = self.running.lock();
            let (readers, stop) = running.entry(id.clone()).or_default();
            *readers += 1;
            Read {
                reads: self.clone(),
                id: id.clone(),
                stop: stop.clone(),
            }
        };
        // After it is entered: either this look or the one of `cancel` finds the other.
        if self.withdrawn.has_ticket(id) {
            return Err(FlightError::CancelledTicket);
        }
        Ok(read)
    }

    /// Withdraws the ticket of this id until it would have expired, and stops whoever reads it.
    pub(super) fn cancel(
        &self,
        id: &Bytes,
        expires: SystemTime,
        now: SystemTime,
    ) -> Result<(), FlightError> {
        self.withdrawn.add_ticket(id, expires, now)?;
        if let Some((_, stop)) = self.running.lock().get(id) {
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
        let mut running = self.reads.running.lock();
        if let Some((readers, _)) = running.get_mut(&self.id) {
            *readers -= 1;
            if *readers == 0 {
                running.remove(&self.id);
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
            .cancel(&mine, now + Duration::from_secs(9), now)
            .unwrap();
        first.stopped().await;
        second.stopped().await;
        assert!(matches!(
            reads.begin(&mine),
            Err(FlightError::CancelledTicket)
        ));
        assert!(!untouched.stop.is_cancelled());
        drop((first, second, untouched));
        assert!(reads.running.lock().is_empty());
    }
}

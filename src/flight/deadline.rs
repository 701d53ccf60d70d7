//! How long a caller waits, as gRPC says it: the header `grpc-timeout` is at most eight digits and a unit
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
//!
//! A client gives up by itself; the server counts too, so that work ends although the client's last word is lost. A client
//! that reads nothing more is not cut by it: its connection's pings are for that.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Sleep;
use tonic::Status;

const HEADER: &str = "grpc-timeout";

/// The end of a caller's patience.
pub(super) struct Deadline(Pin<Box<Sleep>>);

impl Deadline {
    /// The deadline that the headers of a call set. One that cannot be read is passed over: the client keeps its own.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(HEADER)?.to_str().ok()?;
        parse(text).map(Self::in_time)
    }

    pub(super) fn in_time(duration: Duration) -> Self {
        Self(Box::pin(tokio::time::sleep(duration)))
    }

    /// What `work` answers, or nothing when the deadline comes first.
    pub(super) async fn limit<T>(
        deadline: &mut Option<Self>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        match deadline {
            None => Some(work.await),
            Some(deadline) => tokio::select! {
                biased;
                answer = work => Some(answer),
                () = deadline => None,
            },
        }
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

/// The status of a call whose caller has stopped waiting.
pub(super) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the time that the client gave this call is over")
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_grpc_is_read_and_what_is_none_of_them_is_passed_over() {
        for (text, duration) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse(text), Some(duration), "{text}");
        }
        for text in [
            "",
            "S",
            "5",
            "5s",
            "-1S",
            "1.5S",
            "123456789S",
            " 1S",
            "1\u{e9}",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn work_that_answers_at_once_is_in_time_and_work_that_never_does_is_not() {
        let mut deadline = Some(Deadline::in_time(Duration::ZERO));
        assert_eq!(Deadline::limit(&mut deadline, async { 1 }).await, Some(1));
        let never = std::future::pending::<u8>();
        assert_eq!(Deadline::limit(&mut deadline, never).await, None);
        assert_eq!(Deadline::limit(&mut None, async { 2 }).await, Some(2));
    }
}

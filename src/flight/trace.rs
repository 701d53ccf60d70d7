//! W3C trace context: read from a call, kept in its span, and sent along on the calls to other servers that it makes.
//!
//! This program records no spans of its own in a tracing system, so the caller's span stays the parent on every hop.
//! Source: W3C Trace Context, section 3.2.

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

const HEADERS: [&str; 2] = ["traceparent", "tracestate"];

tokio::task_local! {
    static CURRENT: Option<Trace>;
}

/// The trace that a call belongs to.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    parent: MetadataValue<Ascii>,
    state: Option<MetadataValue<Ascii>>,
}

impl Trace {
    /// The trace in a call's headers, if there is a whole one.
    pub(super) fn of(metadata: &MetadataMap) -> Option<Self> {
        let parent = metadata.get(HEADERS[0])?;
        TraceParent::parse(parent.to_str().ok()?)?;
        Some(Self {
            parent: parent.clone(),
            state: metadata.get(HEADERS[1]).cloned(),
        })
    }

    /// Its parts, for a span.
    pub(super) fn parent(&self) -> Option<TraceParent<'_>> {
        TraceParent::parse(self.parent.to_str().ok()?)
    }
}

/// Runs `work` as part of `trace`.
pub(super) async fn within<T>(trace: Option<Trace>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(trace, work).await
}

/// Runs `work`, which does not wait, as part of `trace`.
pub(super) fn within_now<T>(trace: Option<Trace>, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(trace, work)
}

/// Puts the trace of the call under way, if it has one, on a call to another server.
pub(super) fn pass_on(metadata: &mut MetadataMap) {
    let _ = CURRENT.try_with(|trace| {
        if let Some(trace) = trace {
            metadata.insert(HEADERS[0], trace.parent.clone());
            if let Some(state) = &trace.state {
                metadata.insert(HEADERS[1], state.clone());
            }
        }
    });
}

/// The parts of a `traceparent` header that a span keeps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TraceParent<'a> {
    pub(super) trace_id: &'a str,
    pub(super) parent_id: &'a str,
}

impl<'a> TraceParent<'a> {
    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`; later versions may add fields at the end.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let hexadecimal = |part: &str, length: usize| {
            part.len() == length
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = text.split('-');
        let (version, trace_id, parent_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let known = hexadecimal(version, 2)
            && version != "ff"
            && (version != "00" || parts.next().is_none())
            && hexadecimal(trace_id, 32)
            && trace_id.bytes().any(|byte| byte != b'0')
            && hexadecimal(parent_id, 16)
            && parent_id.bytes().any(|byte| byte != b'0')
            && hexadecimal(flags, 2);
        known.then_some(Self {
            trace_id,
            parent_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_by_the_standard() {
        let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent_id = "00f067aa0ba902b7";
        let read = |text: &str| TraceParent::parse(text).is_some();
        let good = format!("00-{trace_id}-{parent_id}-01");
        assert_eq!(
            TraceParent::parse(&good),
            Some(TraceParent {
                trace_id,
                parent_id
            })
        );
        assert!(read(&format!("01-{trace_id}-{parent_id}-01-more")));
        for bad in [
            String::new(),
            format!("00-{trace_id}-{parent_id}"),
            format!("00-{trace_id}-{parent_id}-01-more"),
            format!("ff-{trace_id}-{parent_id}-01"),
            format!("00-{}-{parent_id}-01", "0".repeat(32)),
            format!("00-{}-{parent_id}-01", trace_id.to_uppercase()),
        ] {
            assert!(!read(&bad), "{bad}");
        }
    }
    #[tokio::test]
    async fn a_call_within_a_call_carries_its_trace() {
        let mut metadata = MetadataMap::new();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        metadata.insert("traceparent", parent.parse().unwrap());
        metadata.insert("tracestate", "vendor=1".parse().unwrap());
        let trace = Trace::of(&metadata);
        let sent = within(trace, async {
            let mut sent = MetadataMap::new();
            pass_on(&mut sent);
            sent
        })
        .await;
        assert_eq!(sent.get("traceparent").unwrap(), parent);
        assert_eq!(sent.get("tracestate").unwrap(), "vendor=1");

        let mut outside = MetadataMap::new();
        pass_on(&mut outside);
        assert!(outside.is_empty());
    }
}

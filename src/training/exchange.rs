//! The gradient exchange: partial sums to owners, new values back.
//!
//! Every ordered pair of workers has one stream, open for the whole job. On the stream from worker `i` to owner `j`
//! go, in step order, `i`'s partial sums for `j`'s shard; on its way back come the shard's new values, which are
//! also the barrier: an owner answers a step only when everybody's partial sums of it have come.
//! Lists of rows of sparse tables go the same two ways, each as one message of the length that it has, on the streams that
//! their senders opened.
//! Where an optimizer needs norms, every worker's sums over its blocks go to all others between the two, on the streams
//! that they opened. Once an epoch a worker's report goes to worker 0 in the same way, and the verdict comes back.
//!
//! Knows no models; what the numbers mean is the worker's.

use bytes::Bytes;
use futures::future::{try_join, try_join_all};

use super::TrainingError;
use super::network::{GradientMessage, GradientStream};

/// Most bytes of values in one message: well below the 2 MiB that a Flight message may have.
const PIECE_BYTES: usize = 1 << 20;

/// Node number of an epoch report and its verdict; no tree has it.
const REPORT_NODE: u32 = u32::MAX;

/// Node number of the sums of blocks after the first stage of an update, those of later ones below it; no tree has them.
const BLOCK_SUMS_NODE: u32 = u32::MAX - 1;

/// Node numbers of lists of rows of sparse tables: sums to owners, and new rows back. Below those of any stage.
const ROW_SUMS_NODE: u32 = u32::MAX - 1_000;
const NEW_ROWS_NODE: u32 = u32::MAX - 1_001;

/// Which lists of rows are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Each worker's sums over the rows of the one they are sent to.
    Sums,
    /// The rows that their owner changed.
    New,
}

/// The two streams between this worker and another one.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) worker: u32,
    /// Name of the other worker's server.
    pub(crate) server: String,
    /// Opened here: partial sums leave, new values of the other's shard return.
    pub(crate) toward: GradientStream,
    /// Opened there: its partial sums come, new values of this worker's shard leave.
    pub(crate) from: GradientStream,
}

/// A vector for one owner: a tree node's partial sum over the owner's shard, little-endian float32.
#[derive(Debug, Clone)]
pub(crate) struct PartialSum {
    pub(crate) node: u32,
    pub(crate) values: Bytes,
}

/// This worker's links to all others.
#[derive(Debug)]
pub(crate) struct Exchange {
    links: Vec<Link>,
}

impl Exchange {
    pub(crate) fn new(links: Vec<Link>) -> Self {
        Self { links }
    }

    /// Workers at the other ends.
    pub(crate) fn workers(&self) -> impl Iterator<Item = u32> {
        self.links.iter().map(|link| link.worker)
    }

    /// Sends `outgoing[k]` to the k-th other worker, and takes every other worker's partial sums of this worker's
    /// shard: exactly the nodes in `expected[k]`, each of `length` floats.
    pub(crate) async fn scatter(
        &mut self,
        step: u64,
        outgoing: Vec<Vec<PartialSum>>,
        expected: &[Vec<u32>],
        length: usize,
    ) -> Result<Vec<(u32, Vec<f32>)>, TrainingError> {
        let both_ways =
            self.links
                .iter_mut()
                .zip(outgoing)
                .zip(expected)
                .map(|((link, sums), expected)| {
                    let Link {
                        server,
                        toward,
                        from,
                        ..
                    } = link;
                    let server: &str = server;
                    let send = send_sums(server, toward, step, sums);
                    let receive = receive_sums(server, from, step, expected, length);
                    async { try_join(send, receive).await.map(|((), sums)| sums) }
                });
        let received = try_join_all(both_ways).await?;
        Ok(received.into_iter().flatten().collect())
    }

    /// Sends this worker's new values to all others and hands every other owner's to `write` (worker, floats of its
    /// shard from an offset on).
    pub(crate) async fn gather(
        &mut self,
        step: u64,
        own: Bytes,
        lengths: &[usize],
        mut write: impl FnMut(u32, usize, &[f32]),
    ) -> Result<(), TrainingError> {
        let both_ways = self.links.iter_mut().zip(lengths).map(|(link, &length)| {
            let own = own.clone();
            let Link {
                worker,
                server,
                toward,
                from,
            } = link;
            let (server, worker): (&str, u32) = (server, *worker);
            async move {
                let send = send_values(server, from, step, 0, own, true);
                let receive = receive_values(server, toward, step, 0, Some(length));
                try_join(send, receive)
                    .await
                    .map(|((), (values, _))| (worker, values))
            }
        });
        for (worker, values) in try_join_all(both_ways).await? {
            write(worker, 0, &values);
        }
        Ok(())
    }

    /// Sends this worker's sums of blocks after a stage of an update to all others and takes theirs: `lengths[k]` of them
    /// from the k-th other worker. Returns them by worker.
    pub(crate) async fn share_block_sums(
        &mut self,
        step: u64,
        stage: usize,
        own: &[f64],
        lengths: &[usize],
    ) -> Result<Vec<(u32, Vec<f64>)>, TrainingError> {
        let own: Vec<u8> = own.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        let (own, node) = (Bytes::from(own), BLOCK_SUMS_NODE - stage as u32);
        let both_ways = self.links.iter_mut().zip(lengths).map(|(link, &length)| {
            let own = own.clone();
            let Link {
                worker,
                server,
                toward,
                from,
            } = link;
            let (server, worker): (&str, u32) = (server, *worker);
            async move {
                let send = send_values(server, toward, step, node, own, true);
                let receive = receive_bytes(server, from, step, node, Some(8 * length));
                let ((), bytes) = try_join(send, receive).await?;
                let (sums, _) = bytes.as_chunks::<8>();
                let sums = sums.iter().map(|sum| f64::from_le_bytes(*sum)).collect();
                Ok((worker, sums))
            }
        });
        try_join_all(both_ways).await
    }

    /// Sends `outgoing[k]` (whole 4-byte words) to the k-th other worker and takes as many bytes as each of them sends.
    /// Returns them by worker.
    pub(crate) async fn swap_rows(
        &mut self,
        step: u64,
        rows: Rows,
        outgoing: Vec<Bytes>,
    ) -> Result<Vec<(u32, Vec<u8>)>, TrainingError> {
        let node = match rows {
            Rows::Sums => ROW_SUMS_NODE,
            Rows::New => NEW_ROWS_NODE,
        };
        let both_ways = self.links.iter_mut().zip(outgoing).map(|(link, bytes)| {
            let Link {
                worker,
                server,
                toward,
                from,
            } = link;
            let (server, worker): (&str, u32) = (server, *worker);
            async move {
                let send = send_values(server, toward, step, node, bytes, true);
                let receive = receive_bytes(server, from, step, node, None);
                let ((), bytes) = try_join(send, receive).await?;
                Ok((worker, bytes))
            }
        });
        try_join_all(both_ways).await
    }

    /// Sends this worker's report to worker 0 and waits for its verdict.
    pub(crate) async fn report(
        &mut self,
        step: u64,
        mut report: Vec<u8>,
    ) -> Result<Vec<f32>, TrainingError> {
        let link = self
            .links
            .iter_mut()
            .find(|link| link.worker == 0)
            .ok_or_else(|| internal("worker 0 reports to nobody"))?;
        // The wire carries whole floats.
        report.resize(report.len().next_multiple_of(4), 0);
        let (server, toward) = (&link.server, &mut link.toward);
        send_values(server, toward, step, REPORT_NODE, Bytes::from(report), true).await?;
        let (verdict, _) = receive_values(server, toward, step, REPORT_NODE, None).await?;
        Ok(verdict)
    }

    /// Takes every other worker's report: the other half of [`Self::report`].
    pub(crate) async fn take_reports(&mut self, step: u64) -> Result<Vec<Vec<u8>>, TrainingError> {
        let all = self.links.iter_mut().map(|link| async {
            receive_bytes(&link.server, &mut link.from, step, REPORT_NODE, None).await
        });
        try_join_all(all).await
    }

    /// Answers every other worker's report.
    pub(crate) async fn answer_reports(
        &mut self,
        step: u64,
        verdict: &[f32],
    ) -> Result<(), TrainingError> {
        let verdict = to_bytes(verdict);
        let all = self.links.iter_mut().map(|link| {
            let Link { server, from, .. } = link;
            send_values(server, from, step, REPORT_NODE, verdict.clone(), true)
        });
        try_join_all(all).await.map(drop)
    }
}

/// Floats as little-endian bytes.
pub(crate) fn to_bytes(values: &[f32]) -> Bytes {
    let mut bytes = vec![0; values.len() * 4];
    for (bytes, value) in bytes.chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    Bytes::from(bytes)
}

fn push_floats(bytes: &[u8], values: &mut Vec<f32>) -> Result<(), TrainingError> {
    if !bytes.len().is_multiple_of(4) {
        return Err(internal("a gradient message has a broken float"));
    }
    values.extend(
        bytes
            .chunks_exact(4)
            .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])),
    );
    Ok(())
}

async fn send_sums(
    server: &str,
    stream: &GradientStream,
    step: u64,
    sums: Vec<PartialSum>,
) -> Result<(), TrainingError> {
    // A worker without rows in this step still says so: the owner waits for a last message of everybody.
    let Some((last, before)) = sums.split_last() else {
        return send_values(server, stream, step, 0, Bytes::new(), true).await;
    };
    for sum in before {
        send_values(server, stream, step, sum.node, sum.values.clone(), false).await?;
    }
    send_values(server, stream, step, last.node, last.values.clone(), true).await
}

async fn send_values(
    server: &str,
    stream: &GradientStream,
    step: u64,
    node: u32,
    mut values: Bytes,
    last: bool,
) -> Result<(), TrainingError> {
    let mut offset = 0;
    loop {
        let piece = values.split_to(values.len().min(PIECE_BYTES));
        let floats = (piece.len() / 4) as u64;
        let message = GradientMessage {
            step,
            node,
            offset,
            last: last && values.is_empty(),
            values: piece,
        };
        stream
            .outgoing
            .send(message)
            .await
            .map_err(|_| lost(server))?;
        offset += floats;
        if values.is_empty() {
            return Ok(());
        }
    }
}

async fn receive_sums(
    server: &str,
    stream: &mut GradientStream,
    step: u64,
    expected: &[u32],
    length: usize,
) -> Result<Vec<(u32, Vec<f32>)>, TrainingError> {
    let mut sums: Vec<(u32, Vec<f32>)> = Vec::with_capacity(expected.len());
    loop {
        let message = next_message(server, stream, step).await?;
        if message.node != 0 {
            if sums.last().is_none_or(|(node, _)| *node != message.node) {
                if expected.get(sums.len()) != Some(&message.node) {
                    return Err(internal("a partial sum came that was not expected"));
                }
                sums.push((message.node, Vec::with_capacity(length)));
            }
            let (_, values) = sums
                .last_mut()
                .ok_or_else(|| internal("a partial sum without a node"))?;
            if message.offset != values.len() as u64 {
                return Err(internal("a piece of a partial sum is missing"));
            }
            push_floats(&message.values, values)?;
            if values.len() > length {
                return Err(internal("a partial sum is longer than its shard"));
            }
        }
        if message.last {
            break;
        }
    }
    if sums.len() != expected.len() || sums.iter().any(|(_, values)| values.len() != length) {
        return Err(internal("a partial sum is missing or short"));
    }
    Ok(sums)
}

/// Receives one vector; its length is checked where one is expected.
async fn receive_values(
    server: &str,
    stream: &mut GradientStream,
    step: u64,
    node: u32,
    length: Option<usize>,
) -> Result<(Vec<f32>, u32), TrainingError> {
    let mut values = Vec::with_capacity(length.unwrap_or(1));
    loop {
        let message = next_message(server, stream, step).await?;
        if message.node != node || message.offset != values.len() as u64 {
            return Err(internal("new values came out of order"));
        }
        push_floats(&message.values, &mut values)?;
        if length.is_some_and(|length| values.len() > length) {
            return Err(internal("more new values came than a shard has"));
        }
        if message.last {
            break;
        }
    }
    if length.is_some_and(|length| values.len() != length) {
        return Err(internal("fewer new values came than a shard has"));
    }
    Ok((values, node))
}

/// Receives bytes under a node number of their own; how many is checked where it is known.
async fn receive_bytes(
    server: &str,
    stream: &mut GradientStream,
    step: u64,
    node: u32,
    length: Option<usize>,
) -> Result<Vec<u8>, TrainingError> {
    let mut bytes = Vec::with_capacity(length.unwrap_or(0));
    loop {
        let message = next_message(server, stream, step).await?;
        if message.node != node || message.offset * 4 != bytes.len() as u64 {
            return Err(internal("a message came that was not expected"));
        }
        bytes.extend_from_slice(&message.values);
        if length.is_some_and(|length| bytes.len() > length) {
            return Err(internal("a message is longer than expected"));
        }
        if message.last {
            break;
        }
    }
    if length.is_some_and(|length| bytes.len() != length) {
        return Err(internal("a message is shorter than expected"));
    }
    Ok(bytes)
}

async fn next_message(
    server: &str,
    stream: &mut GradientStream,
    step: u64,
) -> Result<GradientMessage, TrainingError> {
    let message = match stream.incoming.recv().await {
        Some(Ok(message)) => message,
        Some(Err(TrainingError::ServerLost { reason, .. })) => {
            return Err(TrainingError::ServerLost {
                server: server.to_owned(),
                reason,
            });
        }
        Some(Err(error)) => {
            return Err(TrainingError::ServerLost {
                server: server.to_owned(),
                reason: error.to_string(),
            });
        }
        None => return Err(lost(server)),
    };
    if message.step == step {
        Ok(message)
    } else {
        Err(internal("a gradient message of another step came"))
    }
}

fn lost(server: &str) -> TrainingError {
    TrainingError::ServerLost {
        server: server.to_owned(),
        reason: "its gradient stream closed".into(),
    }
}

fn internal(reason: &str) -> TrainingError {
    TrainingError::Internal {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// Two workers joined in memory.
    fn pair() -> (Exchange, Exchange) {
        let (first, second) = (stream_pair(), stream_pair());
        let exchange = |worker: u32, toward, from| {
            Exchange::new(vec![Link {
                worker,
                server: format!("server-{worker}"),
                toward,
                from,
            }])
        };
        (
            exchange(1, first.0, second.1),
            exchange(0, second.0, first.1),
        )
    }

    fn stream_pair() -> (GradientStream, GradientStream) {
        let (near_out, far_raw) = mpsc::channel(2);
        let (far_out, near_raw) = mpsc::channel(2);
        (
            GradientStream {
                outgoing: near_out,
                incoming: wrap(near_raw),
            },
            GradientStream {
                outgoing: far_out,
                incoming: wrap(far_raw),
            },
        )
    }

    fn wrap(
        mut raw: mpsc::Receiver<GradientMessage>,
    ) -> mpsc::Receiver<Result<GradientMessage, TrainingError>> {
        let (sender, receiver) = mpsc::channel(2);
        tokio::spawn(async move {
            while let Some(message) = raw.recv().await {
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }

    #[tokio::test]
    async fn vectors_longer_than_a_piece_arrive_whole_in_both_directions() {
        let (mut zero, mut one) = pair();
        let length = PIECE_BYTES / 4 * 3 + 5;
        let vector = |salt: f32| (0..length).map(|i| i as f32 + salt).collect::<Vec<f32>>();
        let sums = |nodes: &[u32]| {
            vec![
                nodes
                    .iter()
                    .map(|&node| PartialSum {
                        node,
                        values: to_bytes(&vector(node as f32)),
                    })
                    .collect(),
            ]
        };
        let (from_one, from_zero) = try_join(
            zero.scatter(7, sums(&[2]), &[vec![6, 7]], length),
            one.scatter(7, sums(&[6, 7]), &[vec![2]], length),
        )
        .await
        .unwrap();
        assert_eq!(from_zero, [(2, vector(2.0))]);
        assert_eq!(from_one, [(6, vector(6.0)), (7, vector(7.0))]);
        let (mut at_zero, mut at_one) = (Vec::new(), Vec::new());
        try_join(
            zero.gather(7, to_bytes(&vector(0.5)), &[length], |_, _, values| {
                at_zero = values.to_vec();
            }),
            one.gather(7, to_bytes(&vector(1.5)), &[length], |_, _, values| {
                at_one = values.to_vec();
            }),
        )
        .await
        .unwrap();
        assert_eq!((at_zero, at_one), (vector(1.5), vector(0.5)));
    }

    #[tokio::test]
    async fn a_worker_without_rows_and_an_empty_shard_still_keep_step() {
        let (mut zero, mut one) = pair();
        let none = || vec![Vec::new()];
        let (left, right) = try_join(
            zero.scatter(1, none(), &[vec![]], 0),
            one.scatter(1, none(), &[vec![]], 0),
        )
        .await
        .unwrap();
        assert!(left.is_empty() && right.is_empty());
        try_join(
            zero.gather(1, Bytes::new(), &[0], |_, _, values| {
                assert!(values.is_empty())
            }),
            one.gather(1, Bytes::new(), &[0], |_, _, values| {
                assert!(values.is_empty())
            }),
        )
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn sums_of_blocks_go_to_all_others_by_stage_and_keep_their_bits() {
        let (mut zero, mut one) = pair();
        let numbers = |salt: f64, length: usize| {
            let each = (0..length).map(|i| (i as f64 + salt) / 3.0);
            each.collect::<Vec<f64>>()
        };
        // More than a piece one way, none the other.
        let long = PIECE_BYTES / 8 + 3;
        for (stage, of_one) in [(0, long), (1, 0)] {
            let (own_zero, own_one) = (numbers(0.1, 5), numbers(0.2, of_one));
            let (at_zero, at_one) = try_join(
                zero.share_block_sums(4, stage, &own_zero, &[of_one]),
                one.share_block_sums(4, stage, &own_one, &[5]),
            )
            .await
            .unwrap();
            assert_eq!(at_zero, [(1, own_one)]);
            assert_eq!(at_one, [(0, own_zero)]);
        }
        let failure = try_join(
            zero.share_block_sums(5, 0, &[1.0], &[2]),
            one.share_block_sums(5, 0, &[1.0], &[1]),
        )
        .await
        .unwrap_err();
        assert!(matches!(failure, TrainingError::Internal { .. }));
    }

    #[tokio::test]
    async fn lists_of_rows_of_any_length_change_places() {
        let (mut zero, mut one) = pair();
        let bytes = |length: usize, salt: usize| -> Vec<u8> {
            (0..length).map(|i| ((i + salt) % 251) as u8).collect()
        };
        // More than two pieces one way, none the other.
        for (rows, of_zero) in [(Rows::Sums, 2 * PIECE_BYTES + 12), (Rows::New, 0)] {
            let (own_zero, own_one) = (bytes(of_zero, 1), bytes(8, 2));
            let (at_zero, at_one) = try_join(
                zero.swap_rows(4, rows, vec![Bytes::from(own_zero.clone())]),
                one.swap_rows(4, rows, vec![Bytes::from(own_one.clone())]),
            )
            .await
            .unwrap();
            assert_eq!(at_zero, [(1, own_one)]);
            assert_eq!(at_one, [(0, own_zero)]);
        }
        let failure = try_join(
            zero.swap_rows(5, Rows::Sums, vec![Bytes::new()]),
            one.swap_rows(5, Rows::New, vec![Bytes::new()]),
        )
        .await
        .unwrap_err();
        assert!(matches!(failure, TrainingError::Internal { .. }));
    }

    #[tokio::test]
    async fn a_report_goes_to_the_first_worker_and_the_verdict_comes_back() {
        let (mut zero, mut one) = pair();
        let answering = async {
            let reports = zero.take_reports(3).await?;
            assert_eq!(reports, [vec![1, 2, 3, 4, 5, 0, 0, 0]]);
            zero.answer_reports(3, &[1.0]).await
        };
        let (verdict, ()) = try_join(one.report(3, vec![1, 2, 3, 4, 5]), answering)
            .await
            .unwrap();
        assert_eq!(verdict, [1.0]);
    }

    #[tokio::test]
    async fn a_closed_stream_names_the_server_that_was_lost() {
        let (mut zero, one) = pair();
        drop(one);
        let failure = zero
            .scatter(1, vec![Vec::new()], &[vec![2]], 4)
            .await
            .unwrap_err();
        assert!(
            matches!(&failure, TrainingError::ServerLost { server, .. } if server == "server-1"),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn a_message_of_another_step_is_refused() {
        let (mut zero, mut one) = pair();
        let failure = try_join(
            zero.scatter(2, vec![Vec::new()], &[vec![]], 0),
            one.scatter(1, vec![Vec::new()], &[vec![]], 0),
        )
        .await
        .unwrap_err();
        assert!(matches!(failure, TrainingError::Internal { .. }));
    }
}

//! Servers in one process, joined in memory: what `flight/peer.rs` is over the wire. A server can be cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::network::{
    GradientMessage, GradientStream, PeerNetwork, StartWorker, TrainingPeer, WorkerEvent,
};
use super::{Training, TrainingError};
use crate::catalog::JobId;

/// The servers and which of them are cut off.
#[derive(Debug)]
pub(crate) struct MemoryCluster {
    servers: Mutex<BTreeMap<String, Weak<Training>>>,
    cut: watch::Sender<BTreeSet<String>>,
    /// Whether membership notices a cut; otherwise only broken streams tell.
    gossip: bool,
}

impl MemoryCluster {
    pub(crate) fn new(gossip: bool) -> Arc<Self> {
        Arc::new(Self {
            servers: Mutex::default(),
            cut: watch::Sender::default(),
            gossip,
        })
    }

    /// The network as the server called `own` sees it.
    pub(crate) fn network_of(self: &Arc<Self>, own: &str) -> Arc<dyn PeerNetwork> {
        Arc::new(MemoryNetwork {
            own: own.to_owned(),
            cluster: Arc::clone(self),
        })
    }

    /// Lets a server take part.
    pub(crate) fn join(&self, name: &str, training: &Arc<Training>) {
        let training = Arc::downgrade(training);
        self.servers.lock().insert(name.to_owned(), training);
    }

    /// Breaks every stream from and to a server, as its crash would.
    pub(crate) fn cut(&self, name: &str) {
        self.cut.send_modify(|cut| {
            cut.insert(name.to_owned());
        });
    }

    fn find(&self, name: &str) -> Result<Arc<Training>, TrainingError> {
        let lost = || TrainingError::ServerLost {
            server: name.to_owned(),
            reason: "it does not answer".into(),
        };
        if self.cut.borrow().contains(name) {
            return Err(lost());
        }
        let training = self.servers.lock().get(name).and_then(Weak::upgrade);
        training.ok_or_else(lost)
    }

    async fn wait_for_cut(&self, names: [&str; 2]) {
        let mut cut = self.cut.subscribe();
        let is_cut = |cut: &BTreeSet<String>| names.iter().any(|name| cut.contains(*name));
        let _ = cut.wait_for(is_cut).await;
    }
}

#[derive(Debug)]
struct MemoryNetwork {
    own: String,
    cluster: Arc<MemoryCluster>,
}

#[async_trait]
impl PeerNetwork for MemoryNetwork {
    fn peers(&self) -> Vec<TrainingPeer> {
        let servers = self.cluster.servers.lock();
        let peer = |name: &String| TrainingPeer {
            name: name.clone(),
            address: format!("memory:{name}"),
            cores: 2,
        };
        let cut = self.cluster.cut.borrow();
        let seen = |name: &&String| !(self.cluster.gossip && cut.contains(*name));
        servers.keys().filter(seen).map(peer).collect()
    }

    fn alive(&self) -> BTreeSet<String> {
        self.peers().into_iter().map(|peer| peer.name).collect()
    }

    async fn reaches(&self, name: &str) -> bool {
        let cut = self.cluster.cut.borrow().contains(name);
        !cut && self.cluster.servers.lock().contains_key(name)
    }

    fn own_name(&self) -> &str {
        &self.own
    }

    async fn lost(&self, name: &str) {
        if self.cluster.gossip {
            self.cluster.wait_for_cut([name, name]).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    async fn start_worker(
        &self,
        peer: &TrainingPeer,
        start: StartWorker,
    ) -> Result<BoxStream<'static, Result<WorkerEvent, TrainingError>>, TrainingError> {
        let mut events = self.cluster.find(&peer.name)?.accept_worker(start).await?;
        let (cluster, own, peer) = (
            Arc::clone(&self.cluster),
            self.own.clone(),
            peer.name.clone(),
        );
        let stream = async_stream::stream! {
            loop {
                tokio::select! {
                    event = events.next() => match event {
                        Some(event) => yield Ok(event),
                        None => break,
                    },
                    () = cluster.wait_for_cut([&own, &peer]) => {
                        yield Err(TrainingError::ServerLost {
                            server: peer.clone(),
                            reason: "the connection broke".into(),
                        });
                        break;
                    }
                }
            }
        };
        Ok(stream.boxed())
    }

    async fn open_gradients(
        &self,
        peer: &TrainingPeer,
        job: JobId,
        generation: u64,
        from_worker: u32,
        to_worker: u32,
    ) -> Result<GradientStream, TrainingError> {
        let training = self.cluster.find(&peer.name)?;
        let (near_out, far_in) = self.pipe(&peer.name);
        let (far_out, near_in) = self.pipe(&peer.name);
        let far = GradientStream {
            outgoing: far_out,
            incoming: far_in,
        };
        training
            .accept_gradients(job, generation, from_worker, to_worker, far)
            .await?;
        Ok(GradientStream {
            outgoing: near_out,
            incoming: near_in,
        })
    }
}

impl MemoryNetwork {
    /// A bounded pipe that closes when either server is cut off.
    #[allow(clippy::type_complexity)]
    fn pipe(
        &self,
        peer: &str,
    ) -> (
        mpsc::Sender<GradientMessage>,
        mpsc::Receiver<Result<GradientMessage, TrainingError>>,
    ) {
        let (sender, mut raw) = mpsc::channel(2);
        let (forward, receiver) = mpsc::channel(2);
        let (cluster, own, peer) = (Arc::clone(&self.cluster), self.own.clone(), peer.to_owned());
        tokio::spawn(async move {
            let forwarding = async {
                while let Some(message) = raw.recv().await {
                    if forward.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = forwarding => {}
                () = cluster.wait_for_cut([&own, &peer]) => {}
            }
        });
        (sender, receiver)
    }
}

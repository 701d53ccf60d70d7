//! chitchat with our key-values: every server's name, address, state, version, cores and memory.
//!
//! Gossip runs on a thread of its own with its own small runtime: a server whose cores are full of training must still
//! answer, or the others would call it dead. Liveness is judged by phi-accrual ([`failure_detector`]) and then by
//! [`View`](super::view). Measured on loopback: a join shows within a second, a goodbye within a second, a killed
//! server is dead after three to five seconds.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chitchat::transport::UdpTransport;
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, ProtocolVersion,
    spawn_chitchat,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::ClusterError;
use super::view::{Announced, Member, MemberState, Sighting, View};

/// Time between two rounds of gossip and between two looks at what it heard.
const GOSSIP_INTERVAL: Duration = Duration::from_millis(250);
/// A dead server is shown for this long, then forgotten.
const DEAD_SHOWN: Duration = Duration::from_secs(10 * 60);
/// How long a goodbye may take to reach the others before the socket closes: two rounds.
const GOODBYE: Duration = Duration::from_millis(500);
/// Free UDP ports tried when the gossip port is 0 and somebody else took the one just found.
const PORT_ATTEMPTS: usize = 16;
/// Servers of different clusters that reach each other by mistake stay apart by the store, not by this word.
const CLUSTER_ID: &str = "volary";

const KEY_ADDRESS: &str = "address";
const KEY_STATE: &str = "state";
const KEY_VERSION: &str = "version";
const KEY_CORES: &str = "cores";
const KEY_MEMORY: &str = "memory_bytes";

const STATE_READY: &str = "ready";
const STATE_DRAINING: &str = "draining";
const STATE_LEFT: &str = "left";

/// Settings of membership.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Unique name of this server.
    pub name: String,
    /// Address others reach this server's gRPC port at.
    pub advertise: String,
    /// UDP address of gossip. Port 0 takes a free one.
    pub gossip_listen: SocketAddr,
    /// `HOST:PORT` of any other servers (their gossip port).
    pub seeds: Vec<String>,
    pub cores: u32,
    pub memory_bytes: u64,
    pub version: String,
}

/// This server's view of the cluster. Dropped without `stop`, the others find out by its silence.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    gossip_address: SocketAddr,
    members: watch::Receiver<Vec<Member>>,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
enum Command {
    Announce(&'static str, oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

impl Cluster {
    /// Opens the gossip port and begins to look for the others. Returns at once: nobody has to answer.
    pub async fn start(config: ClusterConfig) -> Result<Self, ClusterError> {
        for seed in &config.seeds {
            let port = seed
                .rsplit_once(':')
                .filter(|(host, _)| !host.is_empty())
                .and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                return Err(ClusterError::BadSeed {
                    address: seed.clone(),
                });
            }
        }
        let name = config.name.clone();
        let (members, seen) = watch::channel(Vec::new());
        let (commands, orders) = mpsc::channel(8);
        let (started, start) = oneshot::channel();
        let listen = config.gossip_listen;
        let cannot = |reason: String| ClusterError::Listen {
            address: listen.to_string(),
            reason,
        };
        std::thread::Builder::new()
            .name(String::from("gossip"))
            .spawn(move || {
                match tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                {
                    Ok(runtime) => runtime.block_on(gossip(config, started, members, orders)),
                    Err(error) => {
                        let _ = started.send(Err(ClusterError::Listen {
                            address: listen.to_string(),
                            reason: error.to_string(),
                        }));
                    }
                }
            })
            .map_err(|error| cannot(error.to_string()))?;
        let gossip_address = start
            .await
            .map_err(|_| cannot(String::from("its thread ended")))??;
        Ok(Self {
            name,
            gossip_address,
            members: seen,
            commands,
        })
    }

    /// Every server seen, this one included, sorted by name.
    pub fn members(&self) -> Vec<Member> {
        self.members.borrow().clone()
    }

    /// Changes of the view.
    pub fn watch(&self) -> watch::Receiver<Vec<Member>> {
        self.members.clone()
    }

    /// Name of this server.
    pub fn own_name(&self) -> &str {
        &self.name
    }

    /// The UDP address that gossip is bound to: what others give as `--join`.
    pub fn gossip_address(&self) -> SocketAddr {
        self.gossip_address
    }

    /// Tells the others that this server takes no new work. Returns once its own view says so.
    pub async fn drain(&self) {
        let (done, wait) = oneshot::channel();
        if self
            .commands
            .send(Command::Announce(STATE_DRAINING, done))
            .await
            .is_ok()
        {
            let _ = wait.await;
        }
    }

    /// Says goodbye and leaves; takes two rounds of gossip. Later calls change nothing.
    pub async fn stop(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

/// When a server counts as silent.
///
/// chitchat's phi is the silence divided by the mean time between signs of life, smoothed with five imaginary ones of
/// `initial_interval`. Signs of life come several per round and more often in larger clusters; a long window would
/// shrink the allowed silence to a few rounds, and a server busy with training would be called dead. With a window of
/// two the imaginary ones dominate: the allowed silence is 9 * (5 * 0.45 s + 2 * real) / 7, that is 3 to 3.6 s for real
/// intervals up to 250 ms and longer where they really are longer.
fn failure_detector() -> FailureDetectorConfig {
    FailureDetectorConfig {
        phi_threshold: 9.0,
        sampling_window_size: 2,
        max_interval: Duration::from_secs(3),
        initial_interval: Duration::from_millis(450),
        dead_node_grace_period: DEAD_SHOWN,
    }
}

async fn gossip(
    config: ClusterConfig,
    started: oneshot::Sender<Result<SocketAddr, ClusterError>>,
    members: watch::Sender<Vec<Member>>,
    mut orders: mpsc::Receiver<Command>,
) {
    let handle = match open(&config).await {
        Ok(handle) => handle,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let mut view = View::default();
    publish(&handle, &mut view, &members).await;
    let mut address = handle.chitchat_id().gossip_advertise_addr;
    if config.gossip_listen.ip().is_unspecified() {
        address.set_ip(config.gossip_listen.ip());
    }
    let _ = started.send(Ok(address));

    let mut looks = tokio::time::interval(GOSSIP_INTERVAL);
    // After a pause of this process one look follows, not many at once: see `view`.
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => publish(&handle, &mut view, &members).await,
            order = orders.recv() => match order {
                Some(Command::Announce(state, done)) => {
                    announce(&handle, state).await;
                    publish(&handle, &mut view, &members).await;
                    let _ = done.send(());
                }
                Some(Command::Stop(done)) => {
                    announce(&handle, STATE_LEFT).await;
                    tokio::time::sleep(GOODBYE).await;
                    if let Err(error) = handle.shutdown().await {
                        tracing::warn!(%error, "gossip did not end well");
                    }
                    let _ = done.send(());
                    return;
                }
                // The Cluster was dropped: end without a word, as a killed server does.
                None => {
                    handle.abort();
                    return;
                }
            },
        }
    }
}

/// Binds the port and starts chitchat on it.
async fn open(config: &ClusterConfig) -> Result<ChitchatHandle, ClusterError> {
    let attempts = if config.gossip_listen.port() == 0 {
        PORT_ATTEMPTS
    } else {
        1
    };
    let mut reason = String::new();
    for _ in 0..attempts {
        let mut listen = config.gossip_listen;
        if listen.port() == 0 {
            // chitchat must know its own address before it binds, so the free port is found first.
            match std::net::UdpSocket::bind(listen).and_then(|socket| socket.local_addr()) {
                Ok(free) => listen = free,
                Err(error) => {
                    reason = error.to_string();
                    continue;
                }
            }
        }
        let mut reachable = listen;
        if listen.ip().is_unspecified() {
            reachable.set_ip(advertised_ip(&config.advertise)?);
        }
        match spawn_chitchat(
            chitchat_config(config, listen, reachable),
            key_values(config),
            &UdpTransport,
        )
        .await
        {
            Ok(handle) => return Ok(handle),
            Err(error) => reason = format!("{error:#}"),
        }
    }
    Err(ClusterError::Listen {
        address: config.gossip_listen.to_string(),
        reason,
    })
}

fn chitchat_config(
    config: &ClusterConfig,
    listen: SocketAddr,
    reachable: SocketAddr,
) -> ChitchatConfig {
    // Start time as the life's number: a server that starts again is newer than its former self.
    let life = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        });
    ChitchatConfig {
        chitchat_id: ChitchatId::new(config.name.as_str(), life, reachable),
        cluster_id: CLUSTER_ID.to_owned(),
        gossip_interval: GOSSIP_INTERVAL,
        listen_addr: listen,
        seed_nodes: config.seeds.clone(),
        failure_detector_config: failure_detector(),
        marked_for_deletion_grace_period: DEAD_SHOWN,
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    }
}

fn key_values(config: &ClusterConfig) -> Vec<(String, String)> {
    [
        (KEY_ADDRESS, config.advertise.clone()),
        (KEY_STATE, STATE_READY.to_owned()),
        (KEY_VERSION, config.version.clone()),
        (KEY_CORES, config.cores.to_string()),
        (KEY_MEMORY, config.memory_bytes.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn advertised_ip(advertise: &str) -> Result<std::net::IpAddr, ClusterError> {
    let bad = |reason: String| ClusterError::BadAdvertise {
        address: advertise.to_owned(),
        reason,
    };
    advertise
        .to_socket_addrs()
        .map_err(|error| bad(error.to_string()))?
        .next()
        .map(|address| address.ip())
        .ok_or_else(|| bad(String::from("its host has no address")))
}

/// Changes this server's own state and tells everybody at once rather than at the next round.
async fn announce(handle: &ChitchatHandle, state: &'static str) {
    let peers = handle
        .with_chitchat(|chitchat| {
            chitchat.self_node_state().set(KEY_STATE, state);
            let own = chitchat.self_chitchat_id().clone();
            chitchat
                .live_nodes()
                .filter(|id| **id != own)
                .map(|id| id.gossip_advertise_addr)
                .collect::<Vec<_>>()
        })
        .await;
    for peer in peers {
        // Fails only when gossip has ended; the next round then says so.
        let _ = handle.gossip(peer);
    }
}

/// Looks once and tells the watchers what changed.
async fn publish(handle: &ChitchatHandle, view: &mut View, members: &watch::Sender<Vec<Member>>) {
    let sightings = handle
        .with_chitchat(|chitchat| {
            let own = chitchat.self_chitchat_id();
            let silent: std::collections::BTreeSet<&ChitchatId> = chitchat.dead_nodes().collect();
            let live: std::collections::BTreeSet<&ChitchatId> = chitchat.live_nodes().collect();
            chitchat
                .node_states()
                .iter()
                // Heard of by hearsay alone: neither alive nor dead yet.
                .filter(|(id, _)| *id == own || live.contains(id) || silent.contains(id))
                .filter_map(|(id, state)| sighting(id, state, *id != *own && silent.contains(id)))
                .collect::<Vec<_>>()
        })
        .await;
    let now = view.look(sightings);
    members.send_if_modified(|known| {
        if *known == now {
            return false;
        }
        log_changes(known, &now);
        *known = now;
        true
    });
}

/// `None` until the server's key-values have arrived.
fn sighting(id: &ChitchatId, state: &NodeState, silent: bool) -> Option<Sighting> {
    Some(Sighting {
        life: id.generation_id,
        silent,
        announced: match state.get(KEY_STATE)? {
            STATE_READY => Announced::Ready,
            STATE_LEFT => Announced::Left,
            _ => Announced::Draining,
        },
        member: Member {
            name: id.node_id.to_string(),
            address: state.get(KEY_ADDRESS)?.to_owned(),
            state: MemberState::Ready,
            version: state.get(KEY_VERSION)?.to_owned(),
            cores: state.get(KEY_CORES)?.parse().ok()?,
            memory_bytes: state.get(KEY_MEMORY)?.parse().ok()?,
        },
    })
}

fn log_changes(before: &[Member], after: &[Member]) {
    let find = |members: &[Member], name: &str| {
        members
            .iter()
            .find(|member| member.name == name)
            .map(|member| member.state)
    };
    for member in after {
        let was = find(before, &member.name);
        if was != Some(member.state) {
            match member.state {
                MemberState::Dead => {
                    tracing::warn!(
                        server = member.name,
                        address = member.address,
                        "server is silent"
                    );
                }
                MemberState::Draining => {
                    tracing::info!(server = member.name, "server drains");
                }
                MemberState::Ready => {
                    tracing::info!(
                        server = member.name,
                        address = member.address,
                        "server is ready"
                    );
                }
            }
        }
    }
    for member in before {
        if find(after, &member.name).is_none() {
            tracing::info!(server = member.name, "server left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// The bound that the product promises for joins, leaves and deaths.
    const PROMISED: Duration = Duration::from_secs(5);

    async fn server(name: &str, seeds: &[&Cluster]) -> Cluster {
        Cluster::start(ClusterConfig {
            name: name.to_owned(),
            advertise: format!("{name}.test:50051"),
            gossip_listen: ([127, 0, 0, 1], 0).into(),
            seeds: seeds
                .iter()
                .map(|seed| seed.gossip_address().to_string())
                .collect(),
            cores: 2,
            memory_bytes: 8 << 30,
            version: String::from("0.1.0"),
        })
        .await
        .expect("a free port")
    }

    /// Waits until `viewer` sees exactly these names in these states; returns how long that took.
    async fn sees(viewer: &Cluster, wanted: &[(&str, MemberState)]) -> Duration {
        let began = Instant::now();
        let mut watch = viewer.watch();
        let matched = watch.wait_for(|members| {
            members
                .iter()
                .map(|member| (member.name.as_str(), member.state))
                .eq(wanted.iter().copied())
        });
        if tokio::time::timeout(PROMISED, matched).await.is_err() {
            panic!(
                "{} sees {:?} after {PROMISED:?}, not {wanted:?}",
                viewer.own_name(),
                viewer.members()
            );
        }
        began.elapsed()
    }

    use MemberState::{Dead, Draining, Ready};

    #[tokio::test]
    async fn a_lone_server_is_its_whole_cluster_at_once() {
        let alone = server("alone", &[]).await;
        let members = alone.members();
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].address, "alone.test:50051");
        assert_eq!((members[0].cores, members[0].memory_bytes), (2, 8 << 30));
        assert_eq!(members[0].state, Ready);
        alone.stop().await;
    }

    #[tokio::test]
    async fn servers_that_join_see_each_other_and_a_goodbye_is_seen_at_once() {
        let first = server("a", &[]).await;
        let second = server("b", &[&first]).await;
        let third = server("c", &[&first]).await;
        for viewer in [&first, &second, &third] {
            sees(viewer, &[("a", Ready), ("b", Ready), ("c", Ready)]).await;
        }
        second.drain().await;
        for viewer in [&first, &second, &third] {
            sees(viewer, &[("a", Ready), ("b", Draining), ("c", Ready)]).await;
        }
        second.stop().await;
        for viewer in [&first, &third] {
            let took = sees(viewer, &[("a", Ready), ("c", Ready)]).await;
            assert!(took < Duration::from_secs(2), "a goodbye took {took:?}");
        }
    }

    #[tokio::test]
    async fn a_killed_server_is_dead_in_time_and_replaces_itself_when_it_starts_again() {
        let first = server("a", &[]).await;
        let second = server("b", &[&first]).await;
        let third = server("c", &[&first]).await;
        for viewer in [&first, &second, &third] {
            sees(viewer, &[("a", Ready), ("b", Ready), ("c", Ready)]).await;
        }
        // Dropped without `stop`: its socket closes and it says nothing more, as after `kill -9`.
        drop(second);
        for viewer in [&first, &third] {
            let took = sees(viewer, &[("a", Ready), ("b", Dead), ("c", Ready)]).await;
            println!("{} saw the death after {took:?}", viewer.own_name());
        }
        let again = server("b", &[&third]).await;
        for viewer in [&first, &again, &third] {
            sees(viewer, &[("a", Ready), ("b", Ready), ("c", Ready)]).await;
        }
    }

    #[tokio::test]
    async fn a_taken_port_and_a_bad_seed_are_named() {
        let first = server("a", &[]).await;
        let mut config = ClusterConfig {
            name: String::from("b"),
            advertise: String::from("b.test:1"),
            gossip_listen: first.gossip_address(),
            seeds: Vec::new(),
            cores: 1,
            memory_bytes: 1,
            version: String::new(),
        };
        let error = Cluster::start(config.clone()).await.expect_err("taken");
        assert!(
            error
                .to_string()
                .contains(&first.gossip_address().to_string()),
            "{error}"
        );
        config.seeds = vec![String::from("nowhere")];
        let error = Cluster::start(config).await.expect_err("bad seed");
        assert!(matches!(error, ClusterError::BadSeed { .. }), "{error}");
    }
}

//! Builds everything once, in layer order. Whoever wants to know what a server consists of reads this file.

use std::sync::Arc;

use futures::FutureExt;

use super::admin::StoreProbe;
use super::spill::SpillDirectory;
use super::{Listener, NodeError};
use crate::access::ServerTls;
use crate::catalog::Catalog;
use crate::cluster::{Cluster, ClusterConfig};
use crate::config::NodeConfig;
use crate::features::{ModelFunctions, QueryEngine, QueryLimits};
use crate::flight::{FlightConfig, PeerClient, Services};
use crate::serving::{Serving, ServingConfig};
use crate::support::machine;
use crate::support::shutdown::Shutdown;
use crate::training::{PeerNetwork, Training, TrainingConfig};

/// Name of the key that signs tickets: any server of the cluster must read what another one signed.
const TICKET_KEY: &str = "ticket.key";

/// A server that is built and does not serve yet.
#[derive(Debug)]
pub struct Assembly {
    pub services: Services,
    pub flight: FlightConfig,
    /// Deleted with everything in it when the server ends.
    pub spill: SpillDirectory,
}

/// Reads the certificates, opens the store, builds the engines, joins the cluster.
pub async fn assemble(
    config: &NodeConfig,
    listener: &Listener,
    shutdown: &Shutdown,
) -> Result<Assembly, NodeError> {
    let advertised = config.advertised(listener.grpc_address);
    let tls = match &config.tls {
        Some(files) => {
            let (host, _) = advertised.rsplit_once(':').unwrap_or((&advertised, ""));
            Some(Arc::new(ServerTls::open(files.clone(), host)?))
        }
        None => None,
    };
    let catalog = Catalog::open(&config.store, &listener.name, config.read_cache_bytes).await?;
    let ticket_key = catalog.secret(TICKET_KEY).await?;

    let serving = Serving::with_config(
        catalog.clone(),
        ServingConfig {
            threads: config.threads,
            ..ServingConfig::default()
        },
    );
    let spill = SpillDirectory::make(&std::env::temp_dir());
    let models = Arc::clone(&serving) as Arc<dyn ModelFunctions>;
    let queries = Arc::new(QueryEngine::new(
        catalog.clone(),
        models,
        QueryLimits {
            memory_bytes: usize::try_from(config.memory_limit_bytes).unwrap_or(usize::MAX),
            partitions: config.threads,
            allow_read: config.allow_read.clone(),
            spill_directory: spill.path().to_owned(),
        },
    ));

    let cluster = Arc::new(
        Cluster::start(ClusterConfig {
            name: listener.name.clone(),
            advertise: advertised,
            gossip_listen: listener.gossip_address,
            seeds: config.join.clone(),
            cores: u32::try_from(config.threads).unwrap_or(u32::MAX),
            memory_bytes: machine::memory_bytes(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
        .await?,
    );
    let peers = PeerClient::new(Arc::clone(&cluster), tls.clone());
    let network = Arc::clone(&peers) as Arc<dyn PeerNetwork>;
    let training = Training::new(
        catalog.clone(),
        Arc::clone(&queries),
        network,
        TrainingConfig {
            threads: config.threads,
            cache_bytes: config.training_cache_bytes,
        },
    );

    training.end_left_overs().await;

    let mut flight = FlightConfig::new(ticket_key);
    flight.message_bytes_max = config.max_message_bytes;
    flight.message_bytes_option = "--max-message-size";
    flight.incoming_streams_max = config.max_incoming_streams;
    flight.incoming_streams_option = "--max-incoming-streams";
    flight.direct_endpoints = config.direct_endpoints;
    flight.tls = tls;
    Ok(Assembly {
        services: Services {
            catalog,
            queries,
            serving,
            training,
            cluster,
            peers,
            shutdown: shutdown.clone(),
        },
        flight,
        spill,
    })
}

/// Reads the smallest thing that the store must have.
pub fn store_probe(catalog: &Catalog) -> StoreProbe {
    let catalog = catalog.clone();
    Arc::new(move || {
        let catalog = catalog.clone();
        async move {
            catalog
                .secret(TICKET_KEY)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        }
        .boxed()
    })
}

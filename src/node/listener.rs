//! The bound ports of one server. Binding comes first, so that port 0 is a number before anybody is told of it.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::NodeError;
use crate::config::NodeConfig;

/// Free ports tried until one is free for TCP and for gossip's UDP alike.
const PORT_ATTEMPTS: usize = 32;

/// Ports and name of a server that is about to run.
#[derive(Debug)]
pub struct Listener {
    pub(super) grpc: TcpListener,
    pub(super) http: TcpListener,
    /// What clients and other servers call.
    pub grpc_address: SocketAddr,
    pub http_address: SocketAddr,
    /// Where gossip will listen, over UDP.
    pub gossip_address: SocketAddr,
    pub name: String,
    /// What clients write to connect: `grpc://HOST:PORT`, or `grpc+tls://HOST:PORT`.
    pub url: String,
}

impl Listener {
    /// Binds both TCP ports; with port 0 for gRPC, one whose number gossip can have too.
    pub async fn bind(config: &NodeConfig) -> Result<Self, NodeError> {
        let http = bind("HTTP", "--http", config.http).await?;
        let http_address = address("HTTP", "--http", config.http, &http)?;
        let mut attempts = 0;
        let (grpc, grpc_address) = loop {
            let grpc = bind("gRPC", "--listen", config.listen).await?;
            let bound = address("gRPC", "--listen", config.listen, &grpc)?;
            attempts += 1;
            let chosen = config.listen.port() == 0 && config.gossip.is_none();
            if !chosen || attempts == PORT_ATTEMPTS || std::net::UdpSocket::bind(bound).is_ok() {
                break (grpc, bound);
            }
        };
        let name = config.name.clone().unwrap_or_else(|| {
            format!(
                "{}-{}",
                crate::support::machine::host_name(),
                grpc_address.port()
            )
        });
        let scheme = if config.tls.is_some() {
            "grpc+tls"
        } else {
            "grpc"
        };
        Ok(Self {
            url: format!("{scheme}://{}", config.advertised(grpc_address)),
            grpc,
            http,
            grpc_address,
            http_address,
            gossip_address: config.gossip.unwrap_or(grpc_address),
            name,
        })
    }

    /// The line that `volary serve` prints first.
    pub fn announcement(&self) -> String {
        format!(
            "listening grpc={} http={} name={} url={}",
            self.grpc_address, self.http_address, self.name, self.url
        )
    }
}

async fn bind(
    what: &'static str,
    option: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| NodeError::Listen {
            what,
            option,
            address,
            source,
        })
}

fn address(
    what: &'static str,
    option: &'static str,
    asked: SocketAddr,
    listener: &TcpListener,
) -> Result<SocketAddr, NodeError> {
    listener.local_addr().map_err(|source| NodeError::Listen {
        what,
        option,
        address: asked,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Given;

    fn config(listen: &str) -> NodeConfig {
        NodeConfig::resolve(
            &Given::default()
                .with("listen", listen)
                .with("http", "127.0.0.1:0"),
        )
        .expect("resolved")
    }

    #[tokio::test]
    async fn port_zero_becomes_a_number_that_gossip_can_have_too() {
        let listener = Listener::bind(&config("127.0.0.1:0")).await.expect("bound");
        assert_ne!(listener.grpc_address.port(), 0);
        assert_eq!(listener.gossip_address, listener.grpc_address);
        std::net::UdpSocket::bind(listener.gossip_address).expect("free for gossip");
        let line = listener.announcement();
        assert!(
            line.ends_with(&format!(" url=grpc://{}", listener.grpc_address)),
            "{line}"
        );
        assert!(
            line.starts_with(&format!(
                "listening grpc={} http=127.0.0.1:",
                listener.grpc_address
            )),
            "{line}"
        );
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_option() {
        let first = Listener::bind(&config("127.0.0.1:0")).await.expect("bound");
        let error = Listener::bind(&config(&first.grpc_address.to_string()))
            .await
            .expect_err("taken");
        let text = error.to_string();
        assert!(
            text.contains(&first.grpc_address.to_string()) && text.contains("--listen"),
            "{text}"
        );
    }
}

//! One server inside the test's process, on port 0.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use volary::access::ClientTlsConfig;
use volary::config::{Given, NodeConfig};
use volary::flight::client::Client;
use volary::node::{self, Listener, NodeError};
use volary::support::shutdown::Shutdown;

/// Long enough for a loaded machine; every wait ends with the event it waits for.
const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    http: std::net::SocketAddr,
    url: String,
    shutdown: Shutdown,
    end: tokio::task::JoinHandle<Result<(), NodeError>>,
    store: tempfile::TempDir,
}

async fn server(name: &'static str) -> Server {
    let store = tempfile::tempdir().expect("a directory");
    let given = Given::default()
        .with("listen", "127.0.0.1:0")
        .with("http", "127.0.0.1:0")
        .with("name", name)
        .with("store", store.path().to_str().expect("text"));
    let config = NodeConfig::resolve(&given).expect("resolved");
    let listener = Listener::bind(&config).await.expect("bound");
    let (http, url) = (
        listener.http_address,
        format!("grpc://{}", listener.grpc_address),
    );
    let shutdown = Shutdown::new();
    let end = tokio::spawn(node::run(config, listener, shutdown.clone(), |_| ()));
    // The port is bound before the server is ready; an answer says that it is.
    let mut client = Client::connect(&url, ClientTlsConfig::default())
        .await
        .expect("connected");
    let members = client.action("ListMembers", &serde_json::json!({})).await;
    members.expect("an answer");
    Server {
        http,
        url,
        shutdown,
        end,
        store,
    }
}

impl Server {
    /// Status and body of a page of the HTTP port.
    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: volary\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("{path} answered {answer:?}"));
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    async fn stop(self) {
        self.shutdown.begin();
        tokio::time::timeout(PATIENCE, self.end)
            .await
            .expect("it ends")
            .expect("it does not panic")
            .expect("it ends well");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_live_ready_and_measured_and_knows_itself() {
    let server = server("only").await;
    let mut client = Client::connect(&server.url, ClientTlsConfig::default())
        .await
        .expect("connected");
    let members = client
        .action("ListMembers", &serde_json::json!({}))
        .await
        .expect("members");
    assert_eq!(members.len(), 1);
    assert_eq!(members[0]["name"], "only");
    assert_eq!(members[0]["state"], "READY");
    drop(client);

    assert_eq!(server.get("/livez").await, (200, String::from("alive\n")));
    assert_eq!(server.get("/readyz").await, (200, String::from("ready\n")));
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("volary_server_info{name=\"only\""),
        "{metrics}"
    );
    assert_eq!(server.get("/nowhere").await.0, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_store_is_gone_is_live_but_not_ready() {
    let server = server("homeless").await;
    assert_eq!(server.get("/readyz").await.0, 200);
    let key = server.store.path().join("cluster").join("ticket.key");
    std::fs::remove_file(&key).expect("a key to remove");
    std::fs::create_dir(&key).expect("a directory in its place");
    let (status, reason) = server.get("/readyz").await;
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("store"), "{reason}");
    assert_eq!(server.get("/livez").await.0, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_is_not_ready_and_waits_for_running_work() {
    let server = server("draining").await;
    assert_eq!(server.get("/readyz").await.0, 200);
    let work = server.shutdown.guard();
    server.shutdown.begin();
    assert_eq!(
        server.get("/readyz").await,
        (503, String::from("draining\n"))
    );
    assert!(!server.end.is_finished());
    drop(work);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_let_go_when_the_server_stops() {
    let server = server("silent").await;
    let address = server.url.trim_start_matches("grpc://");
    let mut silent = TcpStream::connect(address).await.expect("connected");
    server.stop().await;
    let mut said = Vec::new();
    let end = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut said)).await;
    // Closed in order, or reset where it had not been taken from the system's queue yet.
    let _ = end.expect("the connection ends");
}

//! The port with TLS: who gets in, and what everybody else hears.

use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use volary::access::{ClientTlsConfig, PemFile};
use volary::config::{Given, NodeConfig};
use volary::flight::client::{Client, ClientError};
use volary::node::{self, Listener, NodeError};
use volary::support::shutdown::Shutdown;

/// Long enough for a loaded machine; every wait ends with the event it waits for.
const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    address: std::net::SocketAddr,
    url: String,
    shutdown: Shutdown,
    end: tokio::task::JoinHandle<Result<(), NodeError>>,
    files: tempfile::TempDir,
}

/// An issuer `ca.pem` and its certificate `server.pem` for 127.0.0.1, with `server.key`.
fn issue(directory: &Path) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&key).expect("signed");
    let issuer = Issuer::new(params, key);
    let params = CertificateParams::new(vec![String::from("127.0.0.1")]).expect("parameters");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("signed");
    for (name, pem) in [
        ("ca.pem", root.pem()),
        ("server.pem", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        std::fs::write(directory.join(name), pem).expect("written");
    }
}

async fn server(settings: &[(&'static str, &str)]) -> Server {
    let files = tempfile::tempdir().expect("a directory");
    issue(files.path());
    let path = |name: &str| files.path().join(name).display().to_string();
    let mut given = Given::default()
        .with("listen", "127.0.0.1:0")
        .with("http", "127.0.0.1:0")
        .with("store", &path("store"));
    for (name, file) in settings {
        given = given.with(name, &path(file));
    }
    let config = NodeConfig::resolve(&given).expect("resolved");
    let listener = Listener::bind(&config).await.expect("bound");
    let (address, url) = (listener.grpc_address, listener.url.clone());
    let shutdown = Shutdown::new();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let run = node::run(config, listener, shutdown.clone(), move |_| {
        let _ = ready.send(());
    });
    let end = tokio::spawn(run);
    is_ready.await.expect("it starts");
    Server {
        address,
        url,
        shutdown,
        end,
        files,
    }
}

impl Server {
    fn file(&self, name: &str) -> Option<PemFile> {
        Some(PemFile::new(name, self.files.path().join(name)))
    }

    fn trusting(&self) -> ClientTlsConfig {
        ClientTlsConfig {
            root_certificates: self.file("ca.pem"),
            ..ClientTlsConfig::default()
        }
    }

    /// How many members a client of these files is told of, or why it is not.
    async fn members(&self, url: &str, tls: ClientTlsConfig) -> Result<usize, ClientError> {
        let asked = async {
            let mut client = Client::connect(url, tls).await?;
            let everything = serde_json::json!({});
            Ok(client.action("ListMembers", &everything).await?.len())
        };
        tokio::time::timeout(PATIENCE, asked)
            .await
            .expect("an answer or an error, never silence")
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

const TLS: &[(&str, &str)] = &[("tls-certificate", "server.pem"), ("tls-key", "server.key")];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls_answers_who_believes_it_and_nobody_waits_for_the_silent() {
    let server = server(TLS).await;
    assert_eq!(server.url, format!("grpc+tls://{}", server.address));
    // Connections that never say a word.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    let members = server.members(&server.url, server.trusting()).await;
    assert_eq!(members.expect("answered"), 1);
    let plain = format!("grpc://{}", server.address);
    let error = server.members(&plain, ClientTlsConfig::default()).await;
    let text = error
        .expect_err("no plain text on a port with TLS")
        .to_string();
    assert!(text.contains("grpc+tls://"), "{text}");
    let members = server.members(&server.url, server.trusting()).await;
    assert_eq!(members.expect("still there"), 1);
    // The silent ones are let go in time.
    let mut first = silent.swap_remove(0);
    let end = tokio::time::timeout(PATIENCE, first.read(&mut [0])).await;
    assert_eq!(end.expect("it is let go").unwrap_or(0), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_tls_is_told_when_the_port_has_none() {
    let server = server(&[]).await;
    let encrypted = format!("grpc+tls://{}", server.address);
    let error = server.members(&encrypted, server.trusting()).await;
    let text = error.expect_err("no TLS there").to_string();
    assert!(text.contains("no TLS"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_certificates_answers_who_shows_one() {
    let mut settings = TLS.to_vec();
    settings.push(("tls-client-ca", "ca.pem"));
    let server = server(&settings).await;
    let error = server.members(&server.url, server.trusting()).await;
    let text = error.expect_err("no certificate shown").to_string();
    assert!(text.contains("--cert-chain"), "{text}");
    let tls = ClientTlsConfig {
        certificate: server.file("server.pem"),
        key: server.file("server.key"),
        ..server.trusting()
    };
    let members = server.members(&server.url, tls).await;
    assert_eq!(members.expect("let in"), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_with_a_key_of_another_certificate() {
    let (files, others) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    issue(files.path());
    issue(others.path());
    let text = |path: std::path::PathBuf| path.display().to_string();
    let given = Given::default()
        .with("listen", "127.0.0.1:0")
        .with("http", "127.0.0.1:0")
        .with("store", &text(files.path().join("store")))
        .with("tls-certificate", &text(files.path().join("server.pem")))
        .with("tls-key", &text(others.path().join("server.key")));
    let config = NodeConfig::resolve(&given).expect("resolved");
    let listener = Listener::bind(&config).await.expect("bound");
    let outcome = node::run(config, listener, Shutdown::new(), |_| ()).await;
    let text = outcome.expect_err("refused").to_string();
    assert!(text.contains("does not belong"), "{text}");
}

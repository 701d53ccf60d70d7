//! Both ends on this machine, with certificates made for the test.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// An issuer of certificates, and the directory where its files are.
struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    let directory = tempfile::tempdir().expect("a directory");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&key).expect("a certificate");
    std::fs::write(directory.path().join("ca.pem"), root.pem()).expect("written");
    Authority {
        directory,
        issuer: Issuer::new(params, key),
    }
}

impl Authority {
    fn path(&self, file: &str) -> std::path::PathBuf {
        self.directory.path().join(file)
    }

    fn ca(&self) -> PemFile {
        PemFile::new("the CA", self.path("ca.pem"))
    }

    /// Writes `name.pem` and `name.key` for that host, with further wishes.
    fn issue(&self, name: &str, host: &str, wishes: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        wishes(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let file = |ending: &str| self.path(&format!("{name}.{ending}"));
        std::fs::write(file("pem"), certificate.pem()).expect("written");
        std::fs::write(file("key"), key.serialize_pem()).expect("written");
    }

    fn server(&self, name: &str) -> TlsConfig {
        TlsConfig {
            certificate: PemFile::new("--tls-certificate", self.path(&format!("{name}.pem"))),
            key: PemFile::new("--tls-key", self.path(&format!("{name}.key"))),
            client_ca: None,
            peer_ca: None,
        }
    }

    fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig {
            root_certificates: Some(self.ca()),
            ..ClientTlsConfig::default()
        }
    }
}

/// An end that opens connections.
enum Caller<'a> {
    Server(&'a ServerTls),
    Client(ClientTlsConfig),
}

/// What a byte sent to a server of that name comes back as, or why it does not; with the first certificate seen.
async fn asked(server: &ServerTls, host: &str, caller: Caller<'_>) -> Result<Vec<u8>, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let stream = TcpStream::connect(listener.local_addr().expect("bound"));
    let (accepted, stream) = tokio::join!(listener.accept(), stream);
    let (accepted, stream) = (accepted.expect("accepted").0, stream.expect("connected"));
    let answered = async {
        let mut stream = server.accept(accepted).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.shutdown().await
    };
    let called = async {
        let mut stream = match caller {
            Caller::Server(tls) => tls.connect(host, stream).await?,
            Caller::Client(config) => {
                let tls = ClientTls::open(config).expect("readable files");
                tls.connect(host, stream).await?
            }
        };
        stream.write_u8(42).await?;
        assert_eq!(stream.read_u8().await?, 42);
        Ok(stream.peer_certificate().expect("shown"))
    };
    let (called, _) = tokio::join!(called, answered);
    called.map_err(|error: std::io::Error| error.to_string())
}

fn opened(config: TlsConfig) -> ServerTls {
    ServerTls::open(config, "volary.test").expect("readable files")
}

#[tokio::test]
async fn a_server_is_believed_when_its_issuer_is_trusted_and_its_name_is_right() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    ours.issue("server", "volary.test", |_| ());
    let server = opened(ours.server("server"));
    let client = || Caller::Client(ours.client());
    asked(&server, "volary.test", client())
        .await
        .expect("believed");

    let stranger = Caller::Client(theirs.client());
    let error = asked(&server, "volary.test", stranger).await;
    let error = error.expect_err("another issuer");
    assert!(error.contains("its issuer is not among those"), "{error}");

    let error = asked(&server, "elsewhere.test", client()).await;
    let error = error.expect_err("another name");
    assert!(
        error.contains("elsewhere.test") && error.contains("volary.test"),
        "{error}"
    );
    let renamed = ClientTlsConfig {
        override_hostname: Some(String::from("volary.test")),
        ..ours.client()
    };
    asked(&server, "elsewhere.test", Caller::Client(renamed))
        .await
        .expect("the name it was told");
    let careless = ClientTlsConfig {
        disable_server_verification: true,
        ..theirs.client()
    };
    asked(&server, "elsewhere.test", Caller::Client(careless))
        .await
        .expect("anybody");
}

#[tokio::test]
async fn a_certificate_that_is_over_is_refused_and_the_server_starts_all_the_same() {
    let ours = authority("ours");
    ours.issue("server", "volary.test", |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let server = opened(ours.server("server"));
    let error = asked(&server, "volary.test", Caller::Client(ours.client())).await;
    let error = error.expect_err("over");
    assert!(error.contains("expired"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_believed_by_who_has_it() {
    let ours = authority("ours");
    let mut params = CertificateParams::new(vec![String::from("volary.test")]).expect("parameters");
    // As `openssl req -x509` makes them: issuers, too.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    std::fs::write(ours.path("ca.pem"), certificate.pem()).expect("written");
    std::fs::write(ours.path("server.pem"), certificate.pem()).expect("written");
    std::fs::write(ours.path("server.key"), key.serialize_pem()).expect("written");
    let server = opened(ours.server("server"));
    asked(&server, "volary.test", Caller::Client(ours.client()))
        .await
        .expect("a client that has it");
    asked(&server, "volary.test", Caller::Server(&server))
        .await
        .expect("a server of the same files");
    let error = asked(&server, "elsewhere.test", Caller::Client(ours.client())).await;
    let error = error.expect_err("another name");
    assert!(error.contains("elsewhere.test"), "{error}");
}

#[tokio::test]
async fn with_a_client_ca_only_those_with_a_certificate_of_it_are_let_in() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    ours.issue("server", "volary.test", |_| ());
    for issuer in [&ours, &theirs] {
        issuer.issue("client", "a.client", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
    }
    let server = opened(TlsConfig {
        client_ca: Some(ours.ca()),
        ..ours.server("server")
    });
    let client = |issuer: &Authority| ClientTlsConfig {
        certificate: Some(PemFile::new("--cert-chain", issuer.path("client.pem"))),
        key: Some(PemFile::new("--private-key", issuer.path("client.key"))),
        ..ours.client()
    };
    asked(&server, "volary.test", Caller::Client(client(&ours)))
        .await
        .expect("let in");
    asked(&server, "volary.test", Caller::Server(&server))
        .await
        .expect("servers show their own");
    for refused in [ours.client(), client(&theirs)] {
        asked(&server, "volary.test", Caller::Client(refused))
            .await
            .expect_err("not let in");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_at_the_next_handshake_and_a_bad_one_is_not() {
    let ours = authority("ours");
    ours.issue("server", "volary.test", |_| ());
    let server = opened(ours.server("server"));
    let shown = async || {
        let shown = asked(&server, "volary.test", Caller::Client(ours.client())).await;
        shown.expect("believed")
    };
    let first = shown().await;
    ours.issue("server", "volary.test", |_| ());
    let second = shown().await;
    assert_ne!(first, second);
    // As when a renewal is half done: the certificate is new, the key not yet.
    ours.issue("next", "volary.test", |_| ());
    std::fs::copy(ours.path("next.pem"), ours.path("server.pem")).expect("copied");
    assert_eq!(shown().await, second);
    std::fs::remove_file(ours.path("server.key")).expect("removed");
    assert_eq!(shown().await, second);
    std::fs::copy(ours.path("next.key"), ours.path("server.key")).expect("copied");
    let third = shown().await;
    assert!(third != second && third != first);
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_it_holds_and_a_remedy() {
    let ours = authority("ours");
    ours.issue("server", "volary.test", |_| ());
    ours.issue("other", "volary.test", |_| ());
    let write = |name: &str, bytes: &[u8]| std::fs::write(ours.path(name), bytes).expect("written");
    write("empty.pem", b"");
    write("text.pem", b"hello");
    write("der.pem", &[0x30, 0x82, 1, 2]);
    write(
        "damaged.pem",
        b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    );
    write(
        "nonsense.pem",
        b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
    );
    write(
        "locked.key",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let refused = |certificate: &str, key: &str, words: &[&str]| {
        let config = TlsConfig {
            certificate: PemFile::new("--tls-certificate", ours.path(certificate)),
            key: PemFile::new("VOLARY_TLS_KEY", ours.path(key)),
            client_ca: None,
            peer_ca: None,
        };
        let error = ServerTls::open(config, "volary.test").expect_err(certificate);
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
    };
    let none = ours.path("none.pem");
    let none = none.to_str().expect("text");
    refused(
        "none.pem",
        "server.key",
        &["--tls-certificate", none, "cannot be read"],
    );
    refused(
        "server.pem",
        "none.key",
        &["VOLARY_TLS_KEY", "cannot be read"],
    );
    refused(
        "empty.pem",
        "server.key",
        &["holds nothing", "BEGIN CERTIFICATE"],
    );
    refused("text.pem", "server.key", &["holds no PEM"]);
    refused("der.pem", "server.key", &["holds DER", "-inform der"]);
    refused("damaged.pem", "server.key", &["cannot be used", "damaged"]);
    refused("nonsense.pem", "server.key", &["cannot be used"]);
    refused(
        "server.key",
        "server.key",
        &["holds PRIVATE KEY and no certificate"],
    );
    refused(
        "server.pem",
        "server.pem",
        &["holds CERTIFICATE and no private key"],
    );
    refused(
        "server.pem",
        "locked.key",
        &["ENCRYPTED PRIVATE KEY", "openssl pkey"],
    );
    refused(
        "server.pem",
        "other.key",
        &["does not belong", "server.pem", "other.key"],
    );
    // One file may hold both.
    let both = [ours.path("server.pem"), ours.path("server.key")];
    let both = both.map(|path: std::path::PathBuf| read(&path)).concat();
    write("both.pem", both.as_bytes());
    let config = TlsConfig {
        key: PemFile::new("--tls-key", ours.path("both.pem")),
        certificate: PemFile::new("--tls-certificate", ours.path("both.pem")),
        ..ours.server("server")
    };
    ServerTls::open(config, "volary.test").expect("both in one file");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("read")
}

#[test]
fn a_clients_certificate_without_its_key_is_refused_with_the_other_option() {
    let file = PemFile::new("--cert-chain", "client.pem");
    let error = ClientTls::open(ClientTlsConfig {
        certificate: Some(file),
        ..ClientTlsConfig::default()
    });
    let error = error.expect_err("no key").to_string();
    assert!(
        error.contains("--private-key beside --cert-chain"),
        "{error}"
    );
}

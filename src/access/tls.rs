//! TLS for the port and for connections to other servers, and for clients of the command line.
//!
//! A server looks at its files before each handshake: one that was renewed is taken up without a restart, for new
//! connections. New files that cannot be used leave the old ones in use, and the log says why. All files are taken up
//! together, so a certificate never stands with another one's key.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::pem::Mark;
use super::trust::{NoVerification, Trust, of_its_time, store, words};
use super::{PemFile, TlsError};

/// gRPC is HTTP/2, and says so in the handshake.
const PROTOCOL: &[u8] = b"h2";

/// Read from the socket at a time. rustls asks for 4 KiB, which would make sixteen system calls of these.
const READ_BYTES: usize = 64 << 10;

/// Encrypted ahead of the socket, so that a message of some size leaves in few writes.
const WRITE_BYTES: usize = 256 << 10;

/// A certificate that ends within this time is spoken of at the start.
const RENEWAL_DUE: Duration = Duration::from_secs(14 * 24 * 3600);

/// A server's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The server's certificate, then those of its issuers.
    pub certificate: PemFile,
    pub key: PemFile,
    /// Issuers of clients' certificates. With it, who shows none of theirs is not let in.
    pub client_ca: Option<PemFile>,
    /// Issuers of other servers' certificates. `None`: those of `client_ca`, and what is in `certificate`; where there is
    /// no `client_ca` either, also those that the system trusts.
    pub peer_ca: Option<PemFile>,
}

impl TlsConfig {
    fn marks(&self) -> Vec<Mark> {
        [
            Some(&self.certificate),
            Some(&self.key),
            self.client_ca.as_ref(),
            self.peer_ca.as_ref(),
        ]
        .into_iter()
        .flatten()
        .map(PemFile::mark)
        .collect()
    }
}

/// TLS of one server: as whom it answers, and whom it believes.
pub struct ServerTls {
    config: TlsConfig,
    /// The host at which other servers call this one.
    advertised_host: String,
    current: RwLock<Current>,
}

struct Current {
    /// Of the files as they were when they were read last, well or not.
    marks: Vec<Mark>,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files. What could keep other servers from believing this one is said in the log.
    pub fn open(config: TlsConfig, advertised_host: &str) -> Result<Self, TlsError> {
        let marks = config.marks();
        let material = Material::read(&config)?;
        material.log_doubts(advertised_host);
        let (acceptor, connector) = material.ends()?;
        Ok(Self {
            config,
            advertised_host: advertised_host.to_owned(),
            current: RwLock::new(Current {
                marks,
                acceptor,
                connector,
            }),
        })
    }

    /// Answers a client's handshake.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<SecureStream> {
        let (acceptor, _) = self.current();
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let stream = acceptor
            .accept_with(stream, |session| {
                session.set_buffer_limit(Some(WRITE_BYTES))
            })
            .await?;
        Ok(SecureStream(stream.into()))
    }

    /// Shakes hands with the server that is called `host`, showing this one's certificate where it asks for one.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<SecureStream> {
        let (_, connector) = self.current();
        secured(&connector, host, stream).await
    }

    /// What the files hold now, or held when they could be used last.
    fn current(&self) -> (TlsAcceptor, TlsConnector) {
        // A look at three or four files is microseconds where a handshake is a millisecond.
        let marks = self.config.marks();
        {
            let current = self.current.read();
            if current.marks == marks {
                return (current.acceptor.clone(), current.connector.clone());
            }
        }
        let mut current = self.current.write();
        if current.marks != marks {
            // Looked at before they are read: what changes in between is read again at the next handshake.
            current.marks = marks;
            let read = Material::read(&self.config).and_then(|material| {
                let ends = material.ends()?;
                Ok((material, ends))
            });
            match read {
                Ok((material, (acceptor, connector))) => {
                    tracing::info!(certificate = ?self.config.certificate.path, "renewed certificate taken up");
                    material.log_doubts(&self.advertised_host);
                    (current.acceptor, current.connector) = (acceptor, connector);
                }
                Err(error) => {
                    tracing::warn!(%error, "renewed certificate not taken up; the one before stays in use");
                }
            }
        }
        (current.acceptor.clone(), current.connector.clone())
    }
}

/// What a server's files hold, checked.
struct Material {
    provider: Arc<CryptoProvider>,
    identity: Arc<CertifiedKey>,
    key: PrivateKeyDer<'static>,
    trust: Arc<Trust>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Material {
    fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (identity, key) = identity(&config.certificate, &config.key, &provider)?;
        let clients = config.client_ca.as_ref().map(|file| {
            let roots = store(&file.certificates()?).map_err(|reason| bad_root(file, reason))?;
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| bad_root(file, error.to_string()))
        });
        let trust = match &config.peer_ca {
            Some(file) => Trust::of(file.certificates()?, Arc::clone(&provider))
                .map_err(|reason| bad_root(file, reason))?,
            None => {
                let mut roots = identity.cert.clone();
                // Not the system's: the addresses of other servers come by gossip, which anybody may have sent.
                if let Some(file) = &config.client_ca {
                    roots.extend(file.certificates()?);
                }
                Trust::of(roots, Arc::clone(&provider))
                    .map_err(|reason| bad_root(&config.certificate, reason))?
            }
        };
        Ok(Self {
            provider,
            identity: Arc::new(identity),
            key,
            trust: Arc::new(trust),
            clients: clients.transpose()?,
        })
    }

    fn ends(&self) -> Result<(TlsAcceptor, TlsConnector), TlsError> {
        let internal = |error: rustls::Error| TlsError::Internal {
            reason: error.to_string(),
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(internal)?;
        let builder = match &self.clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder
            .with_single_cert(self.identity.cert.clone(), self.key.clone_key())
            .map_err(internal)?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        let identity = (self.identity.cert.clone(), self.key.clone_key());
        let trust = Arc::clone(&self.trust) as Arc<dyn ServerCertVerifier>;
        let client = client_config(trust, Some(identity), &self.provider)?;
        Ok((Arc::new(server).into(), Arc::new(client).into()))
    }

    /// Checks the server's own certificate as its clients and the other servers will.
    fn log_doubts(&self, advertised_host: &str) {
        let Some((own, issuers)) = self.identity.cert.split_first() else {
            return;
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let at = |time| UnixTime::since_unix_epoch(time);
        if let Ok(name) = server_name(advertised_host) {
            let check = |time| {
                self.trust
                    .verify_server_cert(own, issuers, &name, &[], at(time))
            };
            match check(now) {
                Err(error) => tracing::warn!(
                    reason = words(&error),
                    "clients and servers that check this server's certificate will not connect to {advertised_host:?}"
                ),
                Ok(_) => {
                    if let Err(error) = check(now + RENEWAL_DUE)
                        && of_its_time(&error)
                    {
                        tracing::warn!(
                            reason = words(&error),
                            "this server's certificate ends within {} days",
                            RENEWAL_DUE.as_secs() / 86_400
                        );
                    }
                }
            }
        }
        if let Some(clients) = &self.clients
            && let Err(error) = clients.verify_client_cert(own, issuers, at(now))
            && !of_its_time(&error)
        {
            tracing::warn!(
                reason = words(&error),
                "other servers will not let this one in, which shows them its own certificate: \
                 it would have to be issued by the client CA and be good for clients too"
            );
        }
    }
}

fn bad_root(file: &PemFile, reason: String) -> TlsError {
    file.unusable(reason, "give certificates of issuers")
}

/// A certificate with its issuers and the key that belongs to it.
fn identity(
    certificate: &PemFile,
    key: &PemFile,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, PrivateKeyDer<'static>), TlsError> {
    let chain = certificate.certificates()?;
    let secret = key.private_key()?;
    let loaded = provider
        .key_provider
        .load_private_key(secret.clone_key())
        .map_err(|error| {
            key.unusable(
                error.to_string(),
                "make one of RSA (2048 bits or more), ECDSA or Ed25519",
            )
        })?;
    let identity = CertifiedKey::new(chain, loaded);
    match identity.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok((identity, secret))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::KeyOfAnother {
            certificate: certificate.path.clone(),
            key: key.path.clone(),
        }),
        Err(error) => {
            Err(certificate.unusable(words(&error), "give an X.509 certificate of version 3"))
        }
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_config(
    trust: Arc<dyn ServerCertVerifier>,
    identity: Option<Identity>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, TlsError> {
    let internal = |error: rustls::Error| TlsError::Internal {
        reason: error.to_string(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(internal)?
        .dangerous()
        .with_custom_certificate_verifier(trust);
    let mut client = match identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(internal)?,
        None => builder.with_no_client_auth(),
    };
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(client)
}

/// What a client of the command line gives; the names are those of Arrow Flight's clients.
#[derive(Debug, Clone, Default)]
pub struct ClientTlsConfig {
    /// Issuers of servers' certificates; the system's when there are none.
    pub root_certificates: Option<PemFile>,
    /// Shown to a server that asks for a certificate.
    pub certificate: Option<PemFile>,
    pub key: Option<PemFile>,
    pub disable_server_verification: bool,
    /// The name that the server's certificate has to be for, where it is not the address's.
    pub override_hostname: Option<String>,
}

/// TLS of one client.
pub struct ClientTls {
    connector: TlsConnector,
    override_hostname: Option<String>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("override_hostname", &self.override_hostname)
            .finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads the files.
    pub fn open(config: ClientTlsConfig) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let identity = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => {
                let (identity, key) = identity(certificate, key, &provider)?;
                Some((identity.cert, key))
            }
            (None, None) => None,
            (Some(given), None) => return Err(alone(given, "--private-key")),
            (None, Some(given)) => return Err(alone(given, "--cert-chain")),
        };
        let trust: Arc<dyn ServerCertVerifier> = if config.disable_server_verification {
            Arc::new(NoVerification(Arc::clone(&provider)))
        } else if let Some(file) = &config.root_certificates {
            let trust = Trust::of(file.certificates()?, Arc::clone(&provider));
            Arc::new(trust.map_err(|reason| bad_root(file, reason))?)
        } else {
            let found = rustls_native_certs::load_native_certs();
            let none = |reason: String| TlsError::NoRoots {
                reason,
                setting: "--tls-root-certs",
            };
            if found.certs.is_empty() {
                let reason = found
                    .errors
                    .first()
                    .map_or_else(|| String::from("none were found"), ToString::to_string);
                return Err(none(reason));
            }
            Arc::new(Trust::of(found.certs, Arc::clone(&provider)).map_err(none)?)
        };
        let client = client_config(trust, identity, &provider)?;
        Ok(Self {
            connector: Arc::new(client).into(),
            override_hostname: config.override_hostname,
        })
    }

    /// Shakes hands with the server at `host`.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<SecureStream> {
        let host = self.override_hostname.as_deref().unwrap_or(host);
        secured(&self.connector, host, stream).await
    }
}

fn alone(given: &PemFile, missing: &'static str) -> TlsError {
    TlsError::OneWithoutTheOther {
        given: given.setting.clone(),
        missing,
    }
}

async fn secured(
    connector: &TlsConnector,
    host: &str,
    stream: TcpStream,
) -> io::Result<SecureStream> {
    let name = server_name(host)?;
    let stream = BufReader::with_capacity(READ_BYTES, stream);
    let connected = connector.connect_with(name, stream, |session| {
        session.set_buffer_limit(Some(WRITE_BYTES));
    });
    let stream = connected.await.map_err(explained)?;
    Ok(SecureStream(stream.into()))
}

/// The name to check, of a host as addresses have it: IPv6 in brackets.
fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{host:?} is no name that a certificate can be for: {error}"),
        )
    })
}

/// A failed handshake in the words of those who have to mend it.
fn explained(error: io::Error) -> io::Error {
    let Some(cause) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => io::Error::new(
                error.kind(),
                "the server ended the handshake; perhaps it speaks no TLS",
            ),
            _ => error,
        };
    };
    let text = match cause {
        rustls::Error::InvalidCertificate(_) => {
            format!("the server's certificate is not believed: {}", words(cause))
        }
        rustls::Error::InvalidMessage(_) => String::from("the server speaks no TLS on this port"),
        other => other.to_string(),
    };
    io::Error::new(error.kind(), text)
}

/// An encrypted TCP connection, of either end.
#[derive(Debug)]
pub struct SecureStream(TlsStream<BufReader<TcpStream>>);

impl SecureStream {
    /// The connection below.
    pub fn tcp(&self) -> &TcpStream {
        self.0.get_ref().0.get_ref()
    }

    /// The certificate that the other end has shown, in DER.
    pub fn peer_certificate(&self) -> Option<Vec<u8>> {
        let (_, session) = self.0.get_ref();
        let shown = session.peer_certificates()?;
        shown.first().map(|certificate| certificate.to_vec())
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

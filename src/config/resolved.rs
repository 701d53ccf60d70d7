//! The settings of one server, checked.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use super::given::GivenValue;
use super::options::option;
use super::quantity::{parse_duration, parse_size};
use super::{ConfigError, Given};
use crate::access::{PemFile, TlsConfig};
use crate::telemetry::tracing::{LogConfig, LogFormat};

/// Everything `node::run` needs to know. Made by [`NodeConfig::resolve`] alone, so what is here has been checked.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub listen: SocketAddr,
    pub http: SocketAddr,
    /// A directory or URL, as `Catalog::open` takes it.
    pub store: String,
    /// `HOST:PORT` of other servers' gossip.
    pub join: Vec<String>,
    /// `None`: made of the host's name and the bound port.
    pub name: Option<String>,
    /// `None`: the bound address.
    pub advertise: Option<String>,
    /// Whether clients are sent to the other servers for parts of a dataset.
    pub direct_endpoints: bool,
    /// `None`: the bound gRPC address, over UDP.
    pub gossip: Option<SocketAddr>,
    pub log: LogConfig,
    pub threads: usize,
    pub memory_limit_bytes: u64,
    pub training_cache_bytes: u64,
    pub read_cache_bytes: u64,
    /// Absolute directories that exist.
    pub allow_read: Vec<PathBuf>,
    pub max_message_bytes: usize,
    pub max_incoming_streams: usize,
    pub drain_timeout: Duration,
    /// `None`: the gRPC port is not encrypted.
    pub tls: Option<TlsConfig>,
}

/// The smallest message limit that still takes a schema and one ordinary batch.
const MESSAGE_BYTES_MIN: u64 = 64 << 10;
/// gRPC frames carry their length in 32 bits; half of it keeps every sum in range.
const MESSAGE_BYTES_MAX: u64 = 2 << 30;
/// More incoming streams than this are more than a connection limit of any client or proxy lets through.
const STREAMS_MAX: usize = 65_536;
/// Memory that the default of `max-incoming-streams` counts for one.
const STREAM_BYTES: u64 = 256 << 20;
/// Incoming streams of the smallest machine.
const STREAMS_MIN: usize = 16;
/// More threads than this on one server is a slip of the finger.
const THREADS_MAX: usize = 4096;

impl NodeConfig {
    /// Checks what was given and fills in the defaults.
    pub fn resolve(given: &Given) -> Result<Self, ConfigError> {
        let machine = Machine::look();
        let insecure = setting(given, "insecure", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(String::from("it is neither true nor false")),
        })?
        .unwrap_or(false);
        let listen = required(given, "listen", parse_address)?;
        let http = required(given, "http", parse_address)?;
        let gossip = setting(given, "gossip", parse_address)?;
        let tls = tls(given)?;
        let unprotected = match &tls {
            None => Some((
                "connections are neither encrypted nor authenticated",
                "listen on 127.0.0.1, give certificates with `--tls-certificate`, `--tls-key` and `--tls-client-ca`, \
                 or accept the risk with `--insecure`",
            )),
            Some(tls) if tls.client_ca.is_none() => Some((
                "anyone there may connect: it has TLS, and clients need no certificate",
                "ask them for one with `--tls-client-ca`, listen on 127.0.0.1, or accept the risk with `--insecure`",
            )),
            Some(_) => None,
        };
        let http_unprotected = Some((
            "the HTTP port has no TLS and asks nobody who they are",
            "it shows health and metrics and takes no orders: listen on 127.0.0.1, or accept that with `--insecure`",
        ));
        for (name, address, unprotected) in [
            ("listen", Some(listen), unprotected),
            ("http", Some(http), http_unprotected),
            ("gossip", gossip, unprotected),
        ] {
            if let Some(address) = address.filter(|address| !address.ip().is_loopback())
                && let Some((lacking, hint)) = unprotected
                && !insecure
            {
                return Err(ConfigError::Exposed {
                    setting: words(given, name),
                    address: address.to_string(),
                    lacking,
                    hint,
                });
            }
        }
        let advertise = setting(given, "advertise", parse_host_port)?;
        if advertise.is_none() && listen.ip().is_unspecified() {
            return Err(ConfigError::NothingToAdvertise {
                setting: words(given, "listen"),
                address: listen.to_string(),
            });
        }
        Ok(Self {
            listen,
            http,
            store: required(given, "store", parse_store)?,
            join: list(given, "join", parse_host_port)?,
            name: setting(given, "name", parse_name)?,
            advertise,
            direct_endpoints: required(given, "endpoints", |text| match text {
                "proxy" => Ok(false),
                "direct" => Ok(true),
                _ => Err(String::from("it is neither proxy nor direct")),
            })?,
            gossip,
            log: LogConfig {
                format: required(given, "log-format", LogFormat::parse)?,
                level: required(given, "log-level", |text| {
                    LogConfig::check_level(text).map(|()| text.to_owned())
                })?,
            },
            threads: setting(given, "threads", |text| {
                text.parse()
                    .ok()
                    .filter(|count| (1..=THREADS_MAX).contains(count))
                    .ok_or_else(|| format!("it is not a whole number from 1 to {THREADS_MAX}"))
            })?
            .unwrap_or(machine.cores),
            memory_limit_bytes: setting(given, "memory-limit", parse_positive_size)?
                .unwrap_or(machine.memory_bytes / 4),
            // Never of the machine: it enters the weights.
            training_cache_bytes: required(given, "training-cache", parse_size)?,
            read_cache_bytes: setting(given, "read-cache", parse_size)?
                .unwrap_or(machine.memory_bytes / 8),
            allow_read: list(given, "allow-read", parse_directory)?,
            max_message_bytes: required(given, "max-message-size", |text| {
                let bytes = parse_size(text)?;
                if (MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&bytes) {
                    usize::try_from(bytes).map_err(|_| String::from("it is too large"))
                } else {
                    Err(String::from("it is not between 64KiB and 2GiB"))
                }
            })?,
            max_incoming_streams: setting(given, "max-incoming-streams", |text| {
                text.parse()
                    .ok()
                    .filter(|count| (1..=STREAMS_MAX).contains(count))
                    .ok_or_else(|| format!("it is not a whole number from 1 to {STREAMS_MAX}"))
            })?
            .unwrap_or_else(|| default_streams(machine.memory_bytes)),
            drain_timeout: required(given, "drain-timeout", parse_duration)?,
            tls,
        })
    }

    /// `HOST:PORT` at which others call the server whose port is bound to `bound`.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        self.advertise.clone().unwrap_or_else(|| bound.to_string())
    }
}

/// The files of TLS, named and not read yet.
fn tls(given: &Given) -> Result<Option<TlsConfig>, ConfigError> {
    let file = |name: &str| {
        setting(given, name, parse_file)
            .map(|path| path.map(|path| PemFile::new(words(given, name), path)))
    };
    let incomplete = |given: &PemFile, missing, hint| ConfigError::Incomplete {
        given: given.setting.clone(),
        missing,
        hint,
    };
    let (client_ca, peer_ca) = (file("tls-client-ca")?, file("tls-peer-ca")?);
    match (file("tls-certificate")?, file("tls-key")?) {
        (Some(certificate), Some(key)) => Ok(Some(TlsConfig {
            certificate,
            key,
            client_ca,
            peer_ca,
        })),
        (Some(certificate), None) => Err(incomplete(
            &certificate,
            "tls-key",
            "name the file with the certificate's private key, which may be the same file",
        )),
        (None, Some(key)) => Err(incomplete(
            &key,
            "tls-certificate",
            "name the file with the key's certificate",
        )),
        (None, None) => match client_ca.or(peer_ca) {
            None => Ok(None),
            Some(ca) => Err(incomplete(
                &ca,
                "tls-certificate",
                "TLS begins with a certificate of the server's own, and its key",
            )),
        },
    }
}

fn default_streams(memory_bytes: u64) -> usize {
    usize::try_from(memory_bytes / STREAM_BYTES)
        .unwrap_or(STREAMS_MAX)
        .clamp(STREAMS_MIN, STREAMS_MAX)
}

/// What the defaults depend on.
struct Machine {
    cores: usize,
    memory_bytes: u64,
}

impl Machine {
    fn look() -> Self {
        Self {
            cores: crate::support::machine::cores(),
            memory_bytes: crate::support::machine::memory_bytes(),
        }
    }
}

/// How the user would recognise the setting: as it was given, or by its flag.
fn words(given: &Given, name: &str) -> String {
    given
        .one(name)
        .map_or_else(|| format!("--{name}"), |value| value.setting.clone())
}

fn read<T>(
    name: &str,
    given: &GivenValue,
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    parse(text).map_err(|reason| ConfigError::BadValue {
        setting: given.setting.clone(),
        value: text.to_owned(),
        reason,
        hint: hint(name),
    })
}

fn setting<T>(
    given: &Given,
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = given.one(name) else {
        return Ok(None);
    };
    let text = value.values.first().map_or("", String::as_str);
    read(name, value, text, parse).map(Some)
}

fn required<T>(
    given: &Given,
    name: &str,
    parse: impl Fn(&str) -> Result<T, String> + Copy,
) -> Result<T, ConfigError> {
    if let Some(value) = setting(given, name, parse)? {
        return Ok(value);
    }
    let default = option(name).and_then(|option| option.default).unwrap_or("");
    let value = GivenValue {
        setting: format!("the default of {name}"),
        values: Vec::new(),
    };
    read(name, &value, default, parse)
}

fn list<T>(
    given: &Given,
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ConfigError> {
    given.one(name).map_or(Ok(Vec::new()), |value| {
        value
            .values
            .iter()
            .map(|item| read(name, value, item, &parse))
            .collect()
    })
}

fn hint(name: &str) -> String {
    let example = match name {
        "listen" | "http" | "gossip" => "write it as 127.0.0.1:50051",
        "join" | "advertise" => "write it as HOST:PORT, 10.0.0.5:50051",
        "store" => "name a directory, or leave it out for ./volary-data",
        "name" => "use 1 to 128 of A-Z a-z 0-9 _ - .",
        "log-format" => "use text or json",
        "endpoints" => "use proxy or direct",
        "log-level" => {
            "use error, warn, info, debug or trace, or directives such as warn,volary=debug"
        }
        "insecure" => "use true or false",
        "threads" => "leave it out for the cores of this machine",
        "memory-limit" | "training-cache" | "read-cache" | "max-message-size" => {
            "write it as 256MiB"
        }
        "max-incoming-streams" => "leave it out for one per 256 MiB of memory",
        "allow-read" => "name a directory that exists",
        "drain-timeout" => "write it as 30s or 500ms",
        "tls-certificate" | "tls-key" | "tls-client-ca" | "tls-peer-ca" => "name a PEM file",
        _ => "see `volary serve --help`",
    };
    example.to_owned()
}

/// A directory, or a URL of a kind of store that there is.
fn parse_store(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(String::from("it is empty"));
    }
    match text.split_once("://") {
        Some(("file", path)) if !path.starts_with('/') => Err(String::from(
            "a file:// URL needs an absolute path and no host",
        )),
        Some(("file", _)) | None => Ok(text.to_owned()),
        Some((scheme, _)) => Err(format!(
            "stores of scheme {scheme:?} are not supported by this version"
        )),
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    split_host_port(text)?;
    text.to_socket_addrs()
        .map_err(|error| format!("its host is not known ({error})"))?
        .next()
        .ok_or_else(|| String::from("its host has no address"))
}

fn parse_host_port(text: &str) -> Result<String, String> {
    let (_, port) = split_host_port(text)?;
    if port == 0 {
        return Err(String::from("port 0 cannot be called"));
    }
    Ok(text.to_owned())
}

fn split_host_port(text: &str) -> Result<(&str, u16), String> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| String::from("it has no port"))?;
    if host.is_empty()
        || host.contains(char::is_whitespace)
        || host.contains('/')
        || (host.contains(':') && !(host.starts_with('[') && host.ends_with(']')))
    {
        return Err(String::from("it has no host that can be called"));
    }
    let port = port
        .parse()
        .map_err(|_| format!("{port:?} is no port number"))?;
    Ok((host, port))
}

/// Names end up in file names, logs and metrics labels.
fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 128 {
        return Err(String::from("it is empty or longer than 128 characters"));
    }
    match text
        .chars()
        .find(|character| !character.is_ascii_alphanumeric() && !"_-.".contains(*character))
    {
        Some(character) => Err(format!("{character:?} may not stand in a name")),
        None => Ok(text.to_owned()),
    }
}

fn parse_positive_size(text: &str) -> Result<u64, String> {
    parse_size(text).and_then(|bytes| {
        if bytes < 16 << 20 {
            Err(String::from("it is less than 16MiB"))
        } else {
            Ok(bytes)
        }
    })
}

fn parse_file(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err(String::from("it is empty"));
    }
    Ok(PathBuf::from(text))
}

fn parse_directory(text: &str) -> Result<PathBuf, String> {
    let path = std::fs::canonicalize(text).map_err(|error| error.to_string())?;
    if path.is_dir() {
        Ok(path)
    } else {
        Err(String::from("it is not a directory"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &'static str, value: &str) -> String {
        NodeConfig::resolve(&Given::default().with(name, value))
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn nothing_given_is_one_server_on_loopback() {
        let config = NodeConfig::resolve(&Given::default()).expect("defaults");
        assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
        assert_eq!(config.http.to_string(), "127.0.0.1:8080");
        assert_eq!(config.store, "./volary-data");
        assert_eq!(config.max_message_bytes, 256 << 20);
        // On every machine: what fits decides in which order rows are trained on.
        assert_eq!(config.training_cache_bytes, 1 << 30);
        assert_eq!(config.drain_timeout, Duration::from_secs(30));
        assert!(config.join.is_empty() && config.name.is_none() && config.threads >= 1);
    }

    #[test]
    fn an_address_others_can_reach_needs_the_word_insecure() {
        let exposed = Given::default().with("listen", "192.0.2.7:50051");
        let error = NodeConfig::resolve(&exposed).expect_err("refused");
        assert!(matches!(error, ConfigError::Exposed { .. }), "{error}");
        assert!(error.to_string().contains("--insecure"), "{error}");
        NodeConfig::resolve(&exposed.with("insecure", "true")).expect("accepted");
        assert!(refused("http", "0.0.0.0:8080").contains("--http is 0.0.0.0:8080"));
    }

    #[test]
    fn an_address_others_can_reach_is_accepted_when_clients_need_a_certificate() {
        let encrypted = Given::default()
            .with("listen", "192.0.2.7:50051")
            .with("tls-certificate", "server.pem")
            .with("tls-key", "server.key");
        let error = NodeConfig::resolve(&encrypted).expect_err("refused");
        assert!(error.to_string().contains("--tls-client-ca"), "{error}");
        let authenticated = encrypted.with("tls-client-ca", "ca.pem");
        let config = NodeConfig::resolve(&authenticated).expect("accepted");
        let tls = config.tls.expect("TLS");
        assert_eq!(tls.key, PemFile::new("--tls-key", "server.key"));
        // The HTTP port is not encrypted even then.
        let error = NodeConfig::resolve(&authenticated.with("http", "192.0.2.7:8080"));
        let error = error.expect_err("refused").to_string();
        assert!(error.contains("--http is 192.0.2.7:8080"), "{error}");
    }

    #[test]
    fn half_of_what_tls_needs_is_refused_with_the_other_half() {
        let refused = |name| refused(name, "file.pem");
        assert!(refused("tls-certificate").contains("`--tls-key` is not"));
        assert!(refused("tls-key").contains("`--tls-certificate` is not"));
        assert!(refused("tls-client-ca").contains("`--tls-certificate` is not"));
        assert!(refused("tls-peer-ca").contains("`--tls-certificate` is not"));
    }

    #[test]
    fn a_wildcard_address_needs_one_to_advertise() {
        let wildcard = Given::default()
            .with("listen", "0.0.0.0:50051")
            .with("insecure", "true");
        let error = NodeConfig::resolve(&wildcard).expect_err("refused");
        assert!(
            matches!(error, ConfigError::NothingToAdvertise { .. }),
            "{error}"
        );
        let config = NodeConfig::resolve(&wildcard.with("advertise", "volary-1.example.org:50051"))
            .expect("accepted");
        assert_eq!(
            config.advertise.as_deref(),
            Some("volary-1.example.org:50051")
        );
    }

    #[test]
    fn a_bad_value_is_answered_with_setting_value_and_remedy() {
        assert_eq!(
            refused("max-message-size", "many"),
            "--max-message-size is \"many\": it does not begin with a whole number; write it as 256MiB"
        );
        assert!(refused("listen", "nine").contains("it has no port"));
        assert!(refused("threads", "0").contains("from 1 to 4096"));
        assert!(refused("log-format", "xml").contains("use text or json"));
        assert!(refused("log-level", "loud=very").contains("use error, warn, info"));
        assert!(refused("name", "a/b").contains("'/' may not stand in a name"));
        assert!(refused("drain-timeout", "30").contains("it has no unit"));
        assert!(refused("join", "somewhere").contains("it has no port"));
        assert!(refused("join", "host:0").contains("port 0"));
        assert!(refused("memory-limit", "1KiB").contains("less than 16MiB"));
        assert_eq!(
            refused("store", "s3://bucket/prefix"),
            "--store is \"s3://bucket/prefix\": stores of scheme \"s3\" are not supported by this version; \
             name a directory, or leave it out for ./volary-data"
        );
        assert!(refused("store", "file://host/path").contains("no host"));
        assert!(refused("store", "").contains("it is empty"));
        assert!(refused("allow-read", "/no/such/directory").contains("/no/such/directory"));
    }

    #[test]
    fn every_option_has_a_hint_of_its_own() {
        for option in super::super::options::OPTIONS {
            if option.name != "config" {
                assert_ne!(
                    hint(option.name),
                    "see `volary serve --help`",
                    "{}",
                    option.name
                );
            }
        }
    }
}

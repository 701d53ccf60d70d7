//! Writes `src/flight/generated` from `flight-protos`. Needs `protoc`; run it from anywhere after changing a `.proto`:
//!
//! ```sh
//! cargo run --manifest-path flight-protos/generate/Cargo.toml
//! ```

use std::path::Path;
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let generated = protos.join("../src/flight/generated");

    let ours = [
        "volary/v1/commands.proto",
        "volary/v1/actions.proto",
        "volary/v1/peer.proto",
    ];
    prost_build::Config::new()
        .btree_map(["."])
        .enable_type_names()
        .bytes(["."])
        .out_dir(&generated)
        .compile_protos(&ours.map(|name| protos.join(name)), &[&protos])?;
    // What arrow-flight has no messages for.
    prost_build::Config::new()
        .btree_map(["."])
        .enable_type_names()
        .bytes(["."])
        .out_dir(&generated)
        .compile_protos(&[protos.join("arrow/Session.proto")], &[protos.join("arrow")])?;

    // Everything the port speaks, for reflection and for the JSON mapping. Comments are left out: they are in the files.
    let status = Command::new(std::env::var_os("PROTOC").unwrap_or_else(|| "protoc".into()))
        .arg("--include_imports")
        .arg(format!("--descriptor_set_out={}", generated.join("descriptors.bin").display()))
        .arg(format!("--proto_path={}", protos.display()))
        .arg(format!("--proto_path={}", protos.join("arrow").display()))
        .args(ours)
        .args(["Flight.proto", "FlightSql.proto", "Session.proto"])
        .status()?;
    if !status.success() {
        return Err(format!("protoc failed: {status}").into());
    }
    Ok(())
}

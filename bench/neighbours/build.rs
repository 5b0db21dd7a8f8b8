//! Generates what capnp and tonic generate. For capnp it comes from a schema, with the program `capnp` (Debian:
//! capnproto). For tonic it comes from a description in Rust, so that no compiler of Protocol Buffers is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=echo.capnp");
    capnpc::CompilerCommand::new().file("echo.capnp").run()?;

    let echo = tonic_build::manual::Method::builder()
        .name("echo")
        .route_name("Echo")
        .input_type("crate::tonic::Json")
        .output_type("crate::tonic::Json")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let service = tonic_build::manual::Service::builder().name("Bench").package("bench").method(echo).build();
    tonic_build::manual::Builder::new().compile(&[service]);
    Ok(())
}

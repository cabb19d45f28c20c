//! Who gives an order while the control plane is down: the same certificates count as when it is up.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use dujiang_identity::{Acceptor, Connector, Expect, Folder as Authorities, Identity, Name, Role};

use crate::context::Context;
use crate::failure::Failure;
use crate::supervisor::folder::Folder;

/// A handshake's few records fit, so that neither side waits for the other to read.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// Where the platform's side of the handshake pretends to be.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The operator who runs this command, proven to the platform's own authority by a handshake within this process: a
/// certificate of this platform, valid now, of an operator, and whoever shows it has its key.
pub async fn proven(context: &Context, folder: &Folder) -> Result<String, Failure> {
    let own = context.operator()?;
    let peer = handshake(&own, folder).await.map_err(|error| {
        Failure::because("the identity proves no operator of this platform", &*error)
            .hint("make one with `dujiang operator create NAME --out FILE`, and name it with --identity FILE")
    })?;
    Ok(peer.within_role().unwrap_or_default().to_owned())
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn handshake(own: &Identity, folder: &Folder) -> Result<Name, AnyError> {
    let authority = Arc::new(Authorities::of(folder.path()).platform()?);
    let control = Name::control(authority.platform());
    let platform = Identity::of_authority(authority, &control, &[NOWHERE])?;
    let acceptor = Acceptor::new(&platform, Expect::roles(&[Role::Operator]))?;
    let connector = Connector::new(own, Expect::roles(&[Role::Control]))?;
    let (here, there) = tokio::io::duplex(HANDSHAKE_BYTES_MAX);
    let (connected, accepted) = tokio::join!(connector.connect(NOWHERE, here), acceptor.accept(there));
    connected?;
    Ok(accepted?.1.name)
}

//! Settings of who connects, and how.

use std::{net::SocketAddr, sync::Arc};

use super::{ConfigError, Options, Secret, bad};
use crate::{acl::Acl, client_limits, client_tls, cluster::Topology};

pub(super) fn client_limits(options: &Options) -> Result<client_limits::Settings, ConfigError> {
    let mut limits = client_limits::Settings::default();
    let given = [
        (
            "timeout",
            client_limits::TIMEOUT,
            options.timeout.map(|s| s.to_string()),
        ),
        (
            "tcp_keepalive",
            client_limits::KEEPALIVE,
            options.tcp_keepalive.map(|s| s.to_string()),
        ),
        (
            "client_query_buffer_limit",
            client_limits::QUERY,
            options.client_query_buffer_limit.clone(),
        ),
        (
            "client_output_buffer_limit",
            client_limits::OUTPUT,
            options.client_output_buffer_limit.clone(),
        ),
    ];
    for (setting, name, value) in given {
        if let Some(value) = value {
            limits.set(name, &value).map_err(|why| bad(setting, why))?;
        }
    }
    Ok(limits)
}

pub(super) fn tls(options: &Options) -> Result<Option<client_tls::Settings>, ConfigError> {
    let Some(listen) = options.tls_listen else {
        return Ok(None);
    };
    let (Some(certificate), Some(key)) = (&options.tls_cert_file, &options.tls_key_file) else {
        return Err(bad("tls_listen", "needs tls_cert_file and tls_key_file"));
    };
    let clients = options.tls_auth_clients.unwrap_or_default();
    if clients != client_tls::ClientCertificates::No && options.tls_ca_cert_file.is_none() {
        return Err(bad("tls_auth_clients", "needs tls_ca_cert_file"));
    }
    Ok(Some(client_tls::Settings {
        listen,
        certificate: certificate.clone(),
        key: key.clone(),
        clients,
        authorities: options.tls_ca_cert_file.clone(),
        revoked: options.tls_crl_file.clone(),
    }))
}

pub(super) fn acl(options: &Options) -> Result<Acl, ConfigError> {
    let password = options
        .requirepass
        .as_ref()
        .map(Secret::reveal)
        .filter(|p| !p.is_empty());
    match &options.acl_file {
        None => Ok(Acl::new(password)),
        Some(file) => Acl::read(password, file)
            .map_err(|error| bad("acl_file", format!("{}: {error}", file.display()))),
    }
}

pub(super) fn cluster(
    options: &Options,
    listen: SocketAddr,
) -> Result<Option<Arc<Topology>>, ConfigError> {
    let Some(members) = &options.cluster else {
        return match options.cluster_self {
            Some(_) => Err(bad("cluster_self", "says which member of `cluster` it is")),
            None => Ok(None),
        };
    };
    let me = options.cluster_self.clone();
    let me = me.unwrap_or_else(|| listen.to_string());
    let topology = Topology::parse(members, &me).map_err(|error| bad("cluster", error))?;
    Ok(Some(Arc::new(topology)))
}

//! The networks of projects, and the one on which builds reach the outside.

use std::collections::HashMap;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;

use super::{Docker, absent, convert, failure};
use crate::labels;
use crate::machine::{Error, Network, NetworkSpec};

impl Docker {
    /// The networks of this node.
    pub(super) async fn list_networks(&self) -> Result<Vec<Network>, Error> {
        let listed = self
            .api
            .list_networks(Some(ListNetworksOptions { filters: Some(self.filter()) }))
            .await
            .map_err(failure)?;
        Ok(listed
            .into_iter()
            .filter_map(|network| {
                Some(Network { name: network.name?, labels: network.labels.unwrap_or_default().into_iter().collect() })
            })
            .collect())
    }

    /// Makes a network unless it is there; tries subnets of its own when Docker has none left.
    pub(super) async fn network(&self, spec: &NetworkSpec) -> Result<(), Error> {
        let _one_at_a_time = self.making_network.lock().await;
        match self.api.inspect_network(&spec.name, None).await {
            Ok(found) => {
                let ours = found.labels.unwrap_or_default().get(labels::NODE) == Some(&self.node);
                return if ours {
                    Ok(())
                } else {
                    Err(Error::Conflict(format!("there is a network {} that is not this node's", spec.name)))
                };
            }
            Err(error) => {
                absent::<()>(error)?;
            }
        }
        let mut result = self.api.create_network(self.network_request(spec, None)).await.map_err(failure);
        // 32 tries: a random one of 1024 subnets is free unless nearly all are taken.
        for attempt in 0..32_u32 {
            match &result {
                Err(Error::Refused(message)) if message.contains("address pool") || message.contains("overlap") => {}
                _ => break,
            }
            let subnet = convert::own_subnet(&spec.name, attempt);
            result = self.api.create_network(self.network_request(spec, Some(subnet))).await.map_err(failure);
        }
        match result {
            Ok(_) => Ok(()),
            Err(Error::Conflict(message)) if message.contains("already exists") => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn network_request(&self, spec: &NetworkSpec, subnet: Option<String>) -> NetworkCreateRequest {
        let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
        labels.insert(labels::NODE.to_owned(), self.node.clone());
        let options = [
            ("com.docker.network.bridge.name", spec.bridge.as_str()),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
        ];
        NetworkCreateRequest {
            name: spec.name.clone(),
            driver: Some("bridge".to_owned()),
            enable_ipv6: Some(false),
            labels: Some(labels),
            options: Some(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()),
            ipam: subnet.map(|subnet| Ipam {
                config: Some(vec![IpamConfig { subnet: Some(subnet), ..IpamConfig::default() }]),
                ..Ipam::default()
            }),
            ..NetworkCreateRequest::default()
        }
    }
}

//! Real clients of Kubernetes against a real server: what works with a cluster works with Berth.
//!
//! Each client is a script in `tests/clients` that does what its users do and asserts what comes back.

mod examples;
mod helm;
mod kube_rs;
mod kubectl;
mod script;

use e2e::{Database, Server};

/// The whole suite on one database.
macro_rules! suite {
    ($database:expr) => {
        use super::*;

        #[tokio::test]
        async fn kubectl() -> anyhow::Result<()> {
            kubectl::story($database).await
        }

        #[tokio::test]
        async fn helm() -> anyhow::Result<()> {
            helm::story($database).await
        }

        #[tokio::test]
        async fn kube_rs() -> anyhow::Result<()> {
            kube_rs::story($database).await
        }

        #[tokio::test]
        async fn the_official_python_client() -> anyhow::Result<()> {
            script::python($database, "official.py").await
        }

        #[tokio::test]
        async fn kr8s() -> anyhow::Result<()> {
            script::python($database, "with_kr8s.py").await
        }

        #[tokio::test]
        async fn lightkube() -> anyhow::Result<()> {
            script::python($database, "with_lightkube.py").await
        }

        #[tokio::test]
        async fn an_operator_of_kopf() -> anyhow::Result<()> {
            script::python($database, "with_kopf.py").await
        }

        #[tokio::test]
        async fn the_official_javascript_client() -> anyhow::Result<()> {
            script::node($database, "client.mjs").await
        }
    };
}

mod sqlite {
    suite!(Database::Sqlite);
}

mod postgres {
    suite!(Database::Postgres);
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_stops() -> anyhow::Result<()> {
    Server::start(Database::Sqlite, &[]).await?.stop().await
}

//! The real kubectl.

use std::process::Output;

use anyhow::bail;
use serde_json::Value;

use crate::Platform;

impl Platform {
    /// Runs kubectl with standard input; the outcome as it is.
    pub async fn try_kubectl(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        self.tool().output(arguments, input).await
    }

    /// Runs kubectl; what it printed, or its error as ours.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl_with(arguments, "").await
    }

    /// Runs kubectl with standard input; what it printed, or its error as ours.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let output = self.try_kubectl(arguments, input).await?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// An object, or a list, as JSON.
    pub async fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let arguments: Vec<&str> = ["get"].iter().chain(arguments).chain(&["-o", "json"]).copied().collect();
        Ok(serde_json::from_str(&self.kubectl(&arguments).await?)?)
    }

    /// The items of a list.
    pub async fn items(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        Ok(self.json(arguments).await?["items"].as_array().cloned().unwrap_or_default())
    }

    /// A condition of an object.
    pub fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
        object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
    }
}

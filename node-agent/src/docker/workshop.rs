//! What builds need of Docker: helper containers, images, volumes.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use bollard::models::{
    ContainerCreateBody, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, VolumeCreateRequest,
};
use bollard::query_parameters::{
    AttachContainerOptions, BuildImageOptions, BuilderVersion, CreateContainerOptions, DownloadFromContainerOptions,
    RemoveVolumeOptions, StartContainerOptions, TagImageOptions, UploadToContainerOptions,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Docker, environment, failure, gone, hardened, no_health_check};
use crate::labels;
use crate::machine::{
    ByteStream, Error, HelperExit, HelperNetwork, HelperSpec, Image, ImageBuild, NetworkSpec, Workshop,
};

/// How many of a failed build's last bytes are its error: a screenful.
const LAST_WORDS_BYTES: usize = 2048;

impl Docker {
    /// The network that leads outside, made when it is first needed.
    async fn network_mode(&self, network: &HelperNetwork) -> Result<String, Error> {
        match network {
            HelperNetwork::None => Ok("none".to_owned()),
            HelperNetwork::Outside => {
                let name = labels::outside_network_name(&self.node);
                let labels = BTreeMap::from([(labels::HELPER.to_owned(), "network".to_owned())]);
                self.network(&NetworkSpec { bridge: labels::outside_bridge_name(&name), name: name.clone(), labels })
                    .await?;
                Ok(name)
            }
        }
    }

    async fn create_helper(&self, spec: &HelperSpec) -> Result<String, Error> {
        let network = self.network_mode(&spec.network).await?;
        for mount in &spec.volumes {
            let request = VolumeCreateRequest {
                name: Some(mount.volume.clone()),
                labels: Some(HashMap::from([(labels::NODE.to_owned(), self.node.clone())])),
                ..VolumeCreateRequest::default()
            };
            self.api.create_volume(request).await.map_err(failure)?;
        }
        let pids = i64::try_from(spec.pids).unwrap_or(i64::MAX);
        let mut host = hardened(&network, spec.cpu_millis, spec.memory_bytes, pids);
        // Its output goes to whoever asked, and nowhere else.
        host.log_config = Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None });
        host.mounts = Some(
            spec.volumes
                .iter()
                .map(|mount| Mount {
                    typ: Some(MountType::VOLUME),
                    source: Some(mount.volume.clone()),
                    target: Some(mount.path.clone()),
                    read_only: Some(mount.read_only),
                    volume_options: Some(MountVolumeOptions { no_copy: Some(false), ..MountVolumeOptions::default() }),
                    ..Mount::default()
                })
                .collect(),
        );
        let tmpfs = |(path, size): &(String, u64)| (path.clone(), format!("rw,nosuid,nodev,size={size},mode=1777"));
        host.tmpfs = Some(spec.tmpfs.iter().map(tmpfs).collect());
        host.extra_hosts = Some(spec.extra_hosts.clone());
        let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
        labels.insert(labels::NODE.to_owned(), self.node.clone());
        labels.insert(labels::HELPER.to_owned(), "container".to_owned());
        let body = ContainerCreateBody {
            image: Some(spec.image.clone()),
            entrypoint: Some(spec.command.clone()),
            env: Some(environment(&spec.env)),
            labels: Some(labels),
            working_dir: spec.working_dir.clone(),
            user: spec.user.clone(),
            healthcheck: Some(no_health_check()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        if let Some(older) = self.inspect(&spec.name).await? {
            self.remove_container(&older.id).await?;
        }
        let options = CreateContainerOptions { name: Some(spec.name.clone()), ..CreateContainerOptions::default() };
        Ok(self.api.create_container(Some(options), body).await.map_err(failure)?.id)
    }

    /// Puts its files in, starts it, passes its output on and waits for its end.
    async fn run_to_end(&self, id: &str, files: Option<Bytes>, output: &mpsc::Sender<Bytes>) -> Result<(), Error> {
        if let Some(files) = files {
            let options = UploadToContainerOptions { path: "/".to_owned(), ..UploadToContainerOptions::default() };
            let body = bollard::body_full(files);
            self.slow.upload_to_container(id, Some(options), body).await.map_err(failure)?;
        }
        let options =
            AttachContainerOptions { stream: true, stdout: true, stderr: true, ..AttachContainerOptions::default() };
        let mut attached = self.slow.attach_container(id, Some(options)).await.map_err(failure)?;
        self.api.start_container(id, None::<StartContainerOptions>).await.map_err(failure)?;
        while let Some(piece) = attached.output.try_next().await.map_err(failure)? {
            if output.send(piece.into_bytes()).await.is_err() {
                // Nobody listens; it runs on, and its output is read and dropped so that it does not block.
                while attached.output.try_next().await.map_err(failure)?.is_some() {}
                break;
            }
        }
        Ok(())
    }

    /// Waits until Docker knows how a container ended: its output may end a moment earlier.
    async fn exit(&self, id: &str) -> Result<HelperExit, Error> {
        let options = bollard::query_parameters::WaitContainerOptions { condition: "not-running".to_owned() };
        let code = match self.slow.wait_container(id, Some(options)).next().await {
            Some(Ok(answer)) => answer.status_code,
            // bollard makes an error of every exit code but 0.
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => code,
            Some(Err(error)) => return Err(failure(error)),
            None => return Err(Error::Unreachable("no answer to a wait".to_owned())),
        };
        let out_of_memory = self.inspect(id).await?.is_some_and(|container| container.out_of_memory);
        Ok(HelperExit { container: id.to_owned(), code, out_of_memory })
    }
}

impl Workshop for Docker {
    async fn run_helper(
        &self,
        spec: HelperSpec,
        output: mpsc::Sender<Bytes>,
        cancel: &CancellationToken,
    ) -> Result<HelperExit, Error> {
        let id = self.create_helper(&spec).await?;
        let files = spec.files.clone();
        let ended = cancel
            .run_until_cancelled(async {
                self.run_to_end(&id, files, &output).await?;
                self.exit(&id).await
            })
            .await
            .unwrap_or(Err(Error::Cancelled));
        if ended.is_err() || !spec.keep {
            self.remove_container(&id).await?;
        }
        ended
    }

    fn copy_out(&self, container: &str, path: &str) -> ByteStream {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        Box::pin(self.slow.download_from_container(container, Some(options)).map_err(failure))
    }

    async fn remove_helper(&self, container: &str) -> Result<(), Error> {
        match self.inspect(container).await? {
            Some(ours) if ours.labels.contains_key(labels::HELPER) => self.remove_container(&ours.id).await,
            _ => Ok(()),
        }
    }

    async fn build_image(
        &self,
        build: ImageBuild,
        output: mpsc::Sender<Bytes>,
        cancel: &CancellationToken,
    ) -> Result<String, Error> {
        let network = self.network_mode(&build.network).await?;
        let mut labels: HashMap<String, String> = build.labels.into_iter().collect();
        labels.insert(labels::NODE.to_owned(), self.node.clone());
        // Docker's interface has 32 bits here: 2 GiB at most.
        let memory = i32::try_from(build.memory_bytes).unwrap_or(i32::MAX);
        let options = BuildImageOptions {
            dockerfile: build.dockerfile,
            t: Some(build.tag.clone()),
            nocache: !build.cache,
            rm: true,
            forcerm: true,
            memory: Some(memory),
            memswap: Some(memory),
            cpuperiod: Some(100_000),
            cpuquota: Some(i32::try_from(build.cpu_millis.saturating_mul(100)).unwrap_or(i32::MAX)),
            buildargs: Some(build.args.into_iter().collect()),
            labels: Some(labels),
            networkmode: Some(network),
            // The first builder: it ends what it started when we hang up, and keeps to limits of memory and processor.
            version: BuilderVersion::BuilderV1,
            ..BuildImageOptions::default()
        };
        let context = bollard::body_try_stream(build.context.map_err(std::io::Error::other));
        let mut steps = self.slow.build_image(options, None, Some(context));
        let mut last_words = String::new();
        let run = async {
            while let Some(step) = steps.next().await {
                let step = step.map_err(failure)?;
                if let Some(error) = step.error_detail {
                    return Err(Error::Refused(error.message.unwrap_or_else(|| last_words.clone())));
                }
                let text = step.stream.or(step.status.map(|status| format!("{status}\n"))).unwrap_or_default();
                if text.is_empty() {
                    continue;
                }
                last_words.push_str(&text);
                if last_words.len() > 2 * LAST_WORDS_BYTES {
                    last_words =
                        last_words.chars().rev().take(LAST_WORDS_BYTES).collect::<Vec<_>>().into_iter().rev().collect();
                }
                // A closed channel only means that nobody reads.
                if output.send(Bytes::from(text)).await.is_err() {
                    tracing::debug!("nobody reads the output of a build");
                }
            }
            Ok(())
        };
        cancel.run_until_cancelled(run).await.unwrap_or(Err(Error::Cancelled))?;
        match self.inspect_image(&build.tag).await? {
            Some(image) => Ok(image.id),
            None => Err(Error::Refused("the build ended without an image".to_owned())),
        }
    }

    async fn inspect_image(&self, reference: &str) -> Result<Option<Image>, Error> {
        Docker::inspect_image(self, reference).await
    }

    async fn ensure_image(&self, reference: &str) -> Result<Image, Error> {
        if let Some(image) = Docker::inspect_image(self, reference).await? {
            return Ok(image);
        }
        self.pull_image(reference).await?;
        Docker::inspect_image(self, reference)
            .await?
            .ok_or_else(|| Error::NotFound(format!("{reference} was fetched and is not there")))
    }

    async fn free_bytes(&self) -> Option<u64> {
        let ask =
            async || self.api.info().await.ok().and_then(|info| info.docker_root_dir).map(PathBuf::from).ok_or(());
        let (size, free) = crate::gauge::disk(self.data_root.get_or_try_init(ask).await.ok()?);
        (size > 0).then_some(free)
    }

    async fn tag_image(&self, image: &str, reference: &str) -> Result<(), Error> {
        let tagged = super::convert::with_tag(reference);
        let (repo, tag) = tagged.rsplit_once(':').unwrap_or((reference, "latest"));
        let options = TagImageOptions { repo: Some(repo.to_owned()), tag: Some(tag.to_owned()) };
        self.api.tag_image(image, Some(options)).await.map_err(failure)
    }

    async fn untag_image(&self, reference: &str) -> Result<(), Error> {
        self.untag(reference).await
    }

    fn save_image(&self, reference: &str) -> ByteStream {
        let (api, reference) = (self.slow.clone(), reference.to_owned());
        // The stream borrows the name it was asked with, so it is driven by a stream that owns it.
        let (sender, receiver) = mpsc::channel(4);
        let mut pump = tokio::task::JoinSet::new();
        pump.spawn(async move {
            let mut bytes = std::pin::pin!(api.export_image(&reference));
            while let Some(piece) = bytes.next().await {
                if sender.send(piece.map_err(failure)).await.is_err() {
                    break;
                }
            }
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        // The set goes with the stream: dropping the stream ends the task.
        Box::pin(stream.inspect(move |_| debug_assert!(pump.len() <= 1)))
    }

    async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        gone(self.api.remove_volume(name, Some(RemoveVolumeOptions { force: true })).await)
    }
}

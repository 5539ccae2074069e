//! The driver of the rules of one service: reads their configuration after each notification.

use std::{sync::Arc, time::Duration};

use nacos_sdk::api::config::{ConfigChangeListener, ConfigResponse};
use rpc_core::Error;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{backoff, configuration::Configuration, limits, shared::Shared};
use crate::{
    supervision::{completes, log},
    throttle::Throttle,
    watches::Watch,
};

/// Forwards the SDK's change notifications. The driver reads the newest content.
struct ChangeListener(Arc<Notify>);

impl ConfigChangeListener for ChangeListener {
    fn notify(&self, _: ConfigResponse) {
        self.0.notify_one();
    }
}

/// Publishes the rules of a service until the watch has no receivers or the handle is dropped.
pub(super) async fn run(watch: Watch<Arc<str>>, shared: Arc<Shared>) {
    let data_id = match limits::data_id(watch.service()) {
        Ok(data_id) => data_id,
        Err(error) => {
            log(|| tracing::warn!(service = %watch.service(), %error, "the service has no rules in Nacos"));
            watch.publish_text("");
            // Without the driver, the client would watch again and again.
            tokio::select! {
                () = shared.tasks.stop().cancelled() => {}
                () = watch.closed() => {}
            }
            return;
        }
    };
    let changed = Arc::new(Notify::new());
    let listener: Arc<dyn ConfigChangeListener> = Arc::new(ChangeListener(Arc::clone(&changed)));
    let subscription = Subscription { watch, shared, data_id, changed, listener, warnings: Throttle::default() };
    loop {
        // `follow` may be dropped at any await: a listener that it has added is removed below.
        tokio::select! {
            () = subscription.shared.tasks.stop().cancelled() => break,
            () = subscription.watch.closed() => {}
            () = async { while !completes("rules in Nacos", subscription.follow()).await {} } => {}
        }
        // Before the watch ends, as in the watch of a list.
        subscription.end_listening().await;
        if subscription.watch.end_if_unwatched() {
            return;
        }
    }
    subscription.end_listening().await;
}

struct Subscription {
    watch: Watch<Arc<str>>,
    shared: Arc<Shared>,
    data_id: String,
    changed: Arc<Notify>,
    /// The SDK identifies a listener by its address, so adding it again does not add a second one.
    listener: Arc<dyn ConfigChangeListener>,
    warnings: Throttle,
}

impl Subscription {
    /// Reads and publishes the rules until it is dropped. After an error, the last ones remain.
    async fn follow(&self) {
        let (mut failures, mut listening) = (0, false);
        loop {
            let configuration = self.shared.configuration().await;
            match self.refresh(&configuration, &mut listening).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    // The server may have lost the subscription, regardless of the SDK's state.
                    listening = false;
                    if self.warnings.allow(std::time::Instant::now()) {
                        let (service, cause) = (self.watch.service(), std::error::Error::source(&error));
                        log(|| tracing::warn!(%service, %error, cause, "the rules may be old; trying again"));
                    }
                }
            }
            let next = Instant::now() + if failures == 0 { REFRESH_INTERVAL } else { backoff::delay(failures) };
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    async fn refresh(&self, configuration: &Configuration, listening: &mut bool) -> Result<(), Error> {
        if !*listening {
            // Before the read, so that no change is missed in between.
            configuration.listen(&self.data_id, Arc::clone(&self.listener)).await?;
            *listening = true;
        }
        self.watch.publish_text(&configuration.read(&self.data_id).await?);
        Ok(())
    }

    async fn end_listening(&self) {
        if let Some(configuration) = self.shared.existing_configuration()
            && let Err(error) = configuration.end_listening(&self.data_id, Arc::clone(&self.listener)).await
        {
            log(|| tracing::debug!(data_id = self.data_id, %error, "cannot remove a listener from Nacos"));
        }
    }
}

/// The time between two reads without a notification, which the server does not send for a removed configuration.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

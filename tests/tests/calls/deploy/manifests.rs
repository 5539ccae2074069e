//! The Kubernetes manifests.

use std::{path::PathBuf, process::Command, time::Duration};

use rpc_server::ServerConfig;
use serde_json::Value;

use super::{DEPLOYMENTS, Deployment, manifests, path, read, resource};

/// The limits of a drain that are no settings: a deregistration while the registry is down, and the end of the streams.
const FIXED_DRAIN_TIME: Duration = Duration::from_secs(3 + 1);

/// The longest time between two lookups of `dns://` and `dns+srv://`.
const LONGEST_LOOKUP_PAUSE: u64 = 30;

/// Returns the validator of manifests; prints a line and returns `None` if it is missing.
fn validator() -> Option<PathBuf> {
    let installed = path("target/tools/python-kubernetes/bin/kubernetes-validate");
    let found = [installed, "kubernetes-validate".into()];
    let found = found.into_iter().find(|path| Command::new(path).arg("--version").output().is_ok());
    if found.is_none() {
        println!("SKIPPED: needs kubernetes-validate for Python, which .ci/run installs");
    }
    found
}

#[test]
fn schemas_of_kubernetes_accept_manifests() {
    let Some(validator) = validator() else { return };
    let validate = |version: &str, files: &[PathBuf]| {
        let mut command = Command::new(&validator);
        let output = command.args(["--strict", "-k", version]).args(files).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    for version in ["1.29", "1.37"] {
        let (valid, text) = validate(version, &manifests());
        assert!(valid, "{version}: {text}");
    }
    // Unknown fields and wrong types are found.
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong.yaml");
    let text = read("deploy/kubernetes/provider.yaml");
    for (from, to) in [("replicas: 3", "replicas: three"), ("readinessProbe:", "readyProbe:")] {
        assert!(text.contains(from));
        std::fs::write(&wrong, text.replace(from, to)).unwrap();
        assert!(!validate("1.37", std::slice::from_ref(&wrong)).0, "{to}");
    }
}

#[test]
fn grace_periods_cover_the_drain() {
    for manifest in DEPLOYMENTS {
        let deployment = Deployment::read(manifest);
        let grace = deployment.pod()["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
        if !deployment.program().ends_with("/provider") {
            continue;
        }
        let notice = Duration::from_secs(deployment.option("--drain-notice").unwrap().parse().unwrap());
        let drain = FIXED_DRAIN_TIME + notice + ServerConfig::default().drain_timeout;
        assert!(Duration::from_secs(grace) > drain, "{manifest}: {grace} s, and the drain takes up to {drain:?}");
    }
    let by_dns = Deployment::read("provider.yaml");
    assert!(by_dns.0["spec"]["minReadySeconds"].as_u64().unwrap() > LONGEST_LOOKUP_PAUSE);
}

#[test]
fn ports_of_manifests_agree() {
    for manifest in DEPLOYMENTS {
        let deployment = Deployment::read(manifest);
        let port = |name: &str| deployment.ports().into_iter().find(|port| port.0 == name).map(|port| port.1);
        let of_option = |name: &str| deployment.option(name)?.rsplit(':').next()?.parse::<u64>().ok();
        assert_eq!(port("metrics"), of_option("--metrics"), "{manifest}");
        assert_eq!(port("msnb"), of_option("--listen"), "{manifest}");
        assert_eq!(deployment.annotation("prometheus.io/scrape"), "true");
        assert_eq!(deployment.annotation("prometheus.io/path"), "/metrics");
        assert_eq!(deployment.annotation("prometheus.io/port").parse().ok(), port("metrics"), "{manifest}");
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let probe = &deployment.container()[probe];
            assert!(probe.is_null() || probe["httpGet"]["port"] == "metrics", "{manifest}: {probe}");
        }
    }
    let service = resource("provider.yaml", "Service");
    let port = &service["spec"]["ports"][0];
    assert_eq!((&port["targetPort"], &port["name"]), (&Value::from("msnb"), &Value::from("msnb")));
    let provider = Deployment::read("provider.yaml");
    assert_eq!(provider.ports()[0], ("msnb", port["port"].as_u64().unwrap()));
    let registry = format!(
        "dns+srv://_{}._tcp.{}.$(POD_NAMESPACE).svc.cluster.local",
        port["name"].as_str().unwrap(),
        service["metadata"]["name"].as_str().unwrap()
    );
    assert_eq!(Deployment::read("consumer.yaml").option("--registry"), Some(&*registry));
}

#[test]
fn selectors_match_the_pods() {
    for manifest in ["provider.yaml", "provider-nacos.yaml"] {
        let deployment = Deployment::read(manifest);
        let labels = &deployment.pod()["metadata"]["labels"];
        let spread = &deployment.pod()["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"];
        let budget = resource(manifest, "PodDisruptionBudget");
        assert_eq!(&deployment.0["spec"]["selector"]["matchLabels"], labels, "{manifest}");
        assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels, "{manifest}");
        assert_eq!(spread, labels, "{manifest}");
    }
    let provider = Deployment::read("provider.yaml");
    let (service, scaler) =
        (resource("provider.yaml", "Service"), resource("provider-hpa.yaml", "HorizontalPodAutoscaler"));
    assert_eq!(service["spec"]["selector"], provider.pod()["metadata"]["labels"]);
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], provider.0["metadata"]["name"]);
    assert_eq!(scaler["spec"]["minReplicas"], provider.0["spec"]["replicas"]);
}

#[test]
fn pods_run_without_privileges() {
    for manifest in DEPLOYMENTS {
        let deployment = Deployment::read(manifest);
        let (pod, container) =
            (&deployment.pod()["spec"]["securityContext"], &deployment.container()["securityContext"]);
        assert_eq!(pod["runAsNonRoot"], true, "{manifest}");
        assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{manifest}");
        assert_eq!(container["readOnlyRootFilesystem"], true, "{manifest}");
        assert_eq!(container["allowPrivilegeEscalation"], false, "{manifest}");
        assert_eq!(container["capabilities"]["drop"][0], "ALL", "{manifest}");
        assert_eq!(deployment.pod()["spec"]["automountServiceAccountToken"], false, "{manifest}");
    }
}

#[test]
fn files_of_arguments_are_mounted() {
    let commands = read("docs/DEPLOYMENT.md");
    for manifest in DEPLOYMENTS {
        let deployment = Deployment::read(manifest);
        let mounts = deployment.container()["volumeMounts"].as_array().unwrap();
        let volumes = deployment.pod()["spec"]["volumes"].as_array().unwrap();
        let files = deployment.arguments().into_iter().filter_map(|argument| argument.split_once("=/"));
        for (option, file) in files {
            let (directory, key) = file.rsplit_once('/').unwrap();
            let mount = mounts.iter().find(|mount| mount["mountPath"] == format!("/{directory}"));
            let mount = mount.unwrap_or_else(|| panic!("{manifest}: {option}={file} is not mounted"));
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            let source = volume["secret"]["secretName"].as_str().or(volume["configMap"]["name"].as_str()).unwrap();
            // The command that creates the Secret or ConfigMap names its keys, except for a Secret of the type TLS.
            let command = commands.lines().find(|line| line.starts_with("kubectl create") && line.contains(source));
            let command = command.unwrap_or_else(|| panic!("docs/DEPLOYMENT.md does not create {source}"));
            let has_key = command.contains(&format!("--from-file={key}=")) || command.contains("secret tls");
            assert!(has_key, "{manifest}: {command} creates no key {key}");
        }
    }
}

//! The Dockerfile.

use super::{DEPLOYMENTS, Deployment, read};

/// Returns the words of the command that builds the programs.
fn cargo_build(dockerfile: &str) -> Vec<&str> {
    let (_, command) = dockerfile.split_once("cargo build ").unwrap();
    command.split("&&").next().unwrap().split_whitespace().collect()
}

/// Returns the values of an option of a command.
fn values<'a>(command: &[&'a str], option: &str) -> Vec<&'a str> {
    command.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1]).collect()
}

#[test]
fn image_is_built_with_existing_features() {
    let (dockerfile, examples) = (read("deploy/Dockerfile"), read("examples/Cargo.toml"));
    let command = cargo_build(&dockerfile);
    assert!(command.contains(&"--locked") && command.contains(&"--release"), "{command:?}");
    assert_eq!(values(&command, "-p"), ["msnb-examples"]);
    let features = values(&command, "--features");
    let features: Vec<_> = features.iter().flat_map(|features| features.split(',')).collect();
    // The manifests need these.
    assert!(["nacos", "registries", "tls"].iter().all(|feature| features.contains(feature)), "{features:?}");
    for feature in features {
        assert!(examples.contains(&format!("\n{feature} = [")), "the package examples has no feature {feature}");
    }
    for program in values(&command, "--bin") {
        assert!(examples.contains(&format!("name = \"{program}\"")), "the package examples has no program {program}");
    }
    let version = format!("rust-version = \"{}\"", argument(&dockerfile, "RUST_VERSION"));
    assert!(read("Cargo.toml").contains(&version), "the image is built with another version: {version}");
}

/// Returns the default of an argument of the image.
fn argument<'a>(dockerfile: &'a str, name: &str) -> &'a str {
    let line = dockerfile.lines().find_map(|line| line.strip_prefix("ARG ")?.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the Dockerfile has no argument {name}"))
}

#[test]
fn manifests_run_programs_and_user_of_image() {
    let dockerfile = read("deploy/Dockerfile");
    let programs = values(&cargo_build(&dockerfile), "--bin");
    assert!(dockerfile.contains("COPY --from=build /out/ /usr/local/bin/\n"));
    for manifest in DEPLOYMENTS {
        let deployment = Deployment::read(manifest);
        let program = deployment.program().strip_prefix("/usr/local/bin/").unwrap();
        assert!(programs.contains(&program), "{manifest}: the image has no program {program}");
        let context = &deployment.pod()["spec"]["securityContext"];
        assert!(dockerfile.contains(&format!("USER {0}:{0}\n", context["runAsUser"])), "{manifest}: {context}");
        for (_, port) in deployment.ports() {
            let exposed = dockerfile.lines().find_map(|line| line.strip_prefix("EXPOSE ")).unwrap();
            assert!(exposed.split(' ').any(|number| number == port.to_string()), "{manifest}: {port}");
        }
    }
}

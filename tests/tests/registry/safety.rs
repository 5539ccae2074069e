//! `local:` in a directory to which other users may write, or from which other programs remove files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rpc_core::{Addresses, Instance, ServiceId};
use rpc_registry::connect;

static GREETER: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

fn instance(port: u16) -> Instance {
    Instance::new(([127, 0, 0, 1], port).into())
}

async fn expect(addresses: &mut Addresses, wanted: &[Instance]) {
    let newest = addresses.wait_for(|list| list.as_deref() == Some(wanted));
    tests::in_time(newest).await.expect("the watch is open");
}

/// Returns the announcements of the service.
fn announcements(root: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(root.join("demo.Greeter@1.0")).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect()
}

#[tokio::test]
async fn consumer_deletes_no_foreign_files() {
    let scratch = tempfile::tempdir().unwrap();
    let (root, project) = (scratch.path().join("registry"), scratch.path().join("project"));
    for directory in [&root, &project] {
        fs::create_dir(directory).unwrap();
    }
    let others = ["package.json", "settings.json", "00000000000000000001-1-0-settings.json"];
    for name in others {
        fs::write(project.join(name), "{}").unwrap();
    }
    let registry = connect(&format!("local:{}", root.display())).await.unwrap();
    // Another user replaces the service's directory by a link to a project.
    std::os::unix::fs::symlink(&project, root.join("demo.Greeter@1.0")).unwrap();
    let linked = registry.watch(&GREETER);
    let error = registry.register(&GREETER, instance(1)).await.unwrap_err();
    assert!(error.to_string().contains("announcement"), "{error}");
    assert!(linked.borrow().is_none());
    assert!(others.iter().all(|name| project.join(name).exists()));

    // The same files in a directory of the service.
    fs::remove_file(root.join("demo.Greeter@1.0")).unwrap();
    fs::rename(&project, root.join("demo.Greeter@1.0")).unwrap();
    let mut watched = linked.clone();
    expect(&mut watched, &[]).await;
    registry.register(&GREETER, instance(1)).await.unwrap();
    expect(&mut watched, &[instance(1)]).await;
    assert!(others.iter().all(|name| root.join("demo.Greeter@1.0").join(name).exists()));
}

/// Removes announcements like a cleanup of temporary files: the file, then the service's directory, then all.
#[tokio::test]
async fn removed_announcement_is_written_again() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("registry");
    let url = format!("local:{}", root.display());
    let (provider, consumer) = (connect(&url).await.unwrap(), connect(&url).await.unwrap());
    provider.register(&GREETER, instance(1)).await.unwrap();
    let mut watched = consumer.watch(&GREETER);
    expect(&mut watched, &[instance(1)]).await;
    let remove: [&dyn Fn(&Path); 3] = [
        &|root| announcements(root).iter().for_each(|file| fs::remove_file(file).unwrap()),
        &|root| fs::remove_dir_all(root.join("demo.Greeter@1.0")).unwrap(),
        &|root| fs::remove_dir_all(root).unwrap(),
    ];
    for remove in remove {
        let before = announcements(&root);
        remove(&root);
        let written = async {
            while announcements(&root).is_subset(&before) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tests::in_time(written).await;
        expect(&mut watched, &[instance(1)]).await;
    }
    // A provider that has deregistered is not announced again.
    provider.deregister(&GREETER, instance(1).address()).await.unwrap();
    provider.register(&GREETER, instance(2)).await.unwrap();
    let before = announcements(&root);
    fs::remove_dir_all(&root).unwrap();
    tests::in_time(async {
        while announcements(&root).is_subset(&before) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    expect(&mut watched, &[instance(2)]).await;
    assert_eq!(announcements(&root).len(), 1);
}

//! The changes from one version of a contract to another.

use rpc_core::{
    DynCaller,
    descriptor::{Contract, compare},
};
use tests::evolution::{one, two};

fn old() -> &'static Contract {
    one::EvolvingClient::<DynCaller>::contract()
}

fn new() -> &'static Contract {
    two::EvolvingClient::<DynCaller>::contract()
}

fn shown(old: &Contract, new: &Contract) -> Vec<String> {
    compare(old, new).iter().map(ToString::to_string).collect()
}

/// Types that several methods have in common are compared once.
#[test]
fn changes_state_what_they_break() {
    let wanted = [
        "type-name: `unchanged/order` from Order to Purchase, breaks source",
        "field-added: `added_field/order.currency` (String, optional), breaks wire by position, source",
        "field-added: `added_parameter/note` (Option<String>, optional), breaks wire by position, source",
        "variant-added: `added_variant/kind.Heavy`, breaks source",
        "variant-order: `added_variant/kind` from Plain, Sized to Heavy, Plain, Sized, breaks wire by position",
        "field-order: `reordered/point` from x, y to y, x, breaks wire by position",
        "field-removed: `removed_parameter/comment` (Option<String>, optional), breaks wire by position, source",
        "type: `widened_parameter/n` from u32 to u64, breaks wire by position, wire by name, source",
        "type: `optional_parameter/n` from u32 to Option<u32>, breaks wire by position, wire by name, source",
        "type-name: `newtype/n` from u32 to Number, breaks source",
        "type-name: `newtype/result` from u32 to Number, breaks source",
        "variant-added: `error_variant/error.Stolen`, breaks source",
        "variant-order: `error_variant/error` from Lost, Late to Stolen, Lost, Late, breaks wire by position",
        "field-added: `required_field/order.currency` (String), breaks wire by position, wire by name, source",
        "field-added: `required_parameter/note` (String), breaks wire by position, wire by name, source",
        "type: `changed_field/order.id` from u64 to String, breaks wire by position, wire by name, source",
        "type: `changed_parameter/n` from u32 to String, breaks wire by position, wire by name, source",
        "type: `changed_result/result` from u32 to String, breaks wire by position, wire by name, source",
        "type: `changed_error/error` from Fault to u64, breaks wire by position, wire by name, source",
        "type: `changed_variant/kind.Sized` from u8 to String, breaks wire by position, wire by name, source",
        "type: `narrowed_parameter/n` from u64 to u8, breaks wire by position, wire by name, source",
        "method-added: `added_method`, breaks source",
    ];
    assert_eq!(shown(old(), new()), wanted);
    let backwards = shown(new(), old());
    assert!(
        backwards.contains(&"method-removed: `added_method`, breaks wire by position, wire by name, source".to_owned())
    );
    assert_eq!(shown(old(), old()), Vec::<String>::new());
    assert_eq!(shown(old(), &Contract::from_json(&old().to_json()).unwrap()), Vec::<String>::new());
}

/// Only changes that reach the wire change the digest of a method.
#[test]
fn digests_change_with_the_wire_only() {
    let digest = |contract: &Contract, name| contract.method_digest(contract.method(name).unwrap());
    let changed: Vec<&str> = old().methods.iter().map(|method| &*method.name).collect();
    for name in changed {
        let is_equal = digest(old(), name) == digest(new(), name);
        assert_eq!(is_equal, ["unchanged", "renamed_type", "newtype"].contains(&name), "{name}");
    }
    assert_ne!(old().digest(), new().digest());
}

/// Each row of the table in the document names the method that `matrix` calls, and states what `compare` finds.
#[test]
fn table_of_document_agrees_with_comparison() {
    let document = include_str!("../../../../docs/CONTRACTS.md");
    let (_, chapter) = document.split_once("## Changing a contract").unwrap();
    let rows = chapter.lines().filter(|line| line.starts_with('|')).skip(2);
    let changes = compare(old(), new());
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, by_name, by_position, test] = cells[..] else { panic!("{row}") };
        let method = test.trim_matches('`');
        assert!(include_str!("matrix.rs").contains(&format!(".{method}(")), "no test calls {method}");
        let of_method = || changes.iter().filter(|change| change.path.split('/').next() == Some(method));
        let breaks_name = of_method().any(|change| change.breaks.name);
        let breaks_position = of_method().any(|change| change.breaks.position);
        // Types that several methods have in common are compared once, by the first of them.
        if method != "items" {
            let is_compatible = by_name.starts_with("yes") || by_name == "as above" || method == "added_method";
            assert_eq!(is_compatible, !breaks_name, "{row}");
            let is_compatible = by_position == "yes" || method == "added_method";
            assert_eq!(is_compatible, !breaks_position, "{row}");
        }
        count += 1;
    }
    assert_eq!(count, 19);
}

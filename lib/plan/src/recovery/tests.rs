//! The medic's decisions on machines made of facts: each damage alone and all of them together, cut at each action.

use super::*;

fn stick() -> Image {
    Image { id: "0123".into(), system: "aaaa".into() }
}

fn seen() -> Boot {
    Boot::Seen { disorder: String::new(), image: Some(stick()), wrong: Vec::new(), sound: 1, broken: Vec::new() }
}

fn healthy() -> Facts {
    let medium = Medium {
        disk: "vda".into(),
        table: Table::Whole,
        boot: seen(),
        slots: BTreeMap::from([("a".into(), Slot::Whole("aaaa".into())), ("b".into(), Slot::Empty)]),
        volumes: BTreeMap::from([("state".into(), Volume::Sound)]),
        database: Database::Sound,
    };
    Facts { stick: stick(), media: vec![medium], ..Facts::default() }
}

fn boot(change: impl FnOnce(&mut String, &mut Vec<String>, &mut usize, &mut Vec<String>)) -> Boot {
    let mut boot = seen();
    let Boot::Seen { disorder, wrong, sound, broken, .. } = &mut boot else { unreachable!() };
    change(disorder, wrong, sound, broken);
    boot
}

type Damage = (&'static str, fn(&mut Medium));

const DAMAGES: &[Damage] = &[
    ("one copy", |medium| medium.table = Table::OneCopy),
    ("no copy", |medium| medium.table = Table::Places),
    ("FAT gone", |medium| medium.boot = Boot::Unreadable("no FAT".into())),
    ("FAT in disorder", |medium| medium.boot = boot(|disorder, _, _, _| *disorder = "lost clusters".into())),
    ("kernel", |medium| medium.boot = boot(|_, wrong, _, _| wrong.push("bakelite/a/vmlinuz".into()))),
    ("entry", |medium| {
        medium.boot = boot(|_, _, sound, broken| {
            *sound = 0;
            broken.push("bakelite-a.conf".into());
        })
    }),
    ("newest entry", |medium| medium.boot = boot(|_, _, _, broken| broken.push("bakelite-a-2.conf".into()))),
    ("slot", |medium| drop(medium.slots.insert("a".into(), Slot::Damaged("aaaa".into())))),
    ("footer", |medium| drop(medium.slots.insert("a".into(), Slot::NoFooter("it is damaged".into())))),
    ("state", |medium| drop(medium.volumes.insert("state".into(), Volume::Damaged("bad inode".into())))),
];

/// What an action does to a machine of facts.
fn apply(medium: &mut Medium, action: &Action) {
    match action {
        Action::CopyTable | Action::MakeTable => medium.table = Table::Whole,
        Action::MakeBoot => medium.boot = seen(),
        Action::MendBoot => {
            if let Boot::Seen { disorder, .. } = &mut medium.boot {
                disorder.clear();
            }
        }
        Action::WriteFiles(names) => {
            if let Boot::Seen { wrong, .. } = &mut medium.boot {
                wrong.retain(|name| !names.contains(name));
            }
        }
        Action::WriteEntry => {
            if let Boot::Seen { sound, .. } = &mut medium.boot {
                *sound = 1;
            }
        }
        Action::RemoveEntries(names) => {
            if let Boot::Seen { broken, .. } = &mut medium.boot {
                broken.retain(|name| !names.contains(name));
            }
        }
        Action::WriteSlot(letter) => drop(medium.slots.insert(letter.clone(), Slot::Whole("aaaa".into()))),
        Action::MendVolume(name) => {
            medium.volumes.insert(name.clone(), Volume::Sound);
        }
        Action::Install(_) => unreachable!("this machine has a medium"),
    }
}

/// What a cut in the middle of an action leaves, at its worst.
fn cut(medium: &mut Medium, action: &Action) {
    match action {
        Action::MakeBoot => medium.boot = Boot::Unreadable("half of one".into()),
        Action::MendBoot | Action::WriteFiles(_) | Action::WriteEntry | Action::RemoveEntries(_) => {
            if let Boot::Seen { disorder, .. } = &mut medium.boot {
                *disorder = "not unmounted".into();
            }
        }
        Action::WriteSlot(letter) => drop(medium.slots.insert(letter.clone(), Slot::Damaged("aaaa".into()))),
        // The table's writes leave one whole copy, and e2fsck goes on where it was.
        Action::CopyTable | Action::MakeTable | Action::MendVolume(_) | Action::Install(_) => {}
    }
}

fn run(facts: &mut Facts, cut_at: Option<usize>) -> usize {
    for number in 0..40 {
        let findings = decide(facts);
        let Next::Do(action) = next(&findings, &[]) else { return number };
        let medium = &mut facts.media[0];
        if cut_at == Some(number) { cut(medium, &action) } else { apply(medium, &action) }
    }
    panic!("it never ends: {:?}", decide(facts));
}

#[test]
fn a_healthy_machine_is_left_alone() {
    let findings = decide(&healthy());
    assert!(findings.iter().all(|finding| finding.remedy == Remedy::None), "{findings:?}");
    assert_eq!(run(&mut healthy(), None), 0);
}

#[test]
fn each_damage_and_all_together_are_cured_wherever_it_is_cut() {
    for set in 0..1usize << DAMAGES.len() {
        let mut facts = healthy();
        for (number, (_, damage)) in DAMAGES.iter().enumerate() {
            if set >> number & 1 == 1 {
                damage(&mut facts.media[0]);
            }
        }
        let mut cured = facts.clone();
        let actions = run(&mut cured, None);
        assert_eq!(cured, healthy(), "{facts:?}");
        for at in 0..actions {
            let mut again = facts.clone();
            run(&mut again, Some(at));
            assert_eq!(again, healthy(), "cut at {at}: {facts:?}");
        }
    }
}

#[test]
fn another_image_is_never_overwritten() {
    let mut facts = healthy();
    facts.stick = Image { id: "9999".into(), system: "bbbb".into() };
    assert_eq!(run(&mut facts.clone(), None), 0, "a healthy machine of another image stays as it is");
    for (name, damage) in DAMAGES.iter().filter(|(name, _)| ["kernel", "entry", "slot"].contains(name)) {
        let mut facts = facts.clone();
        damage(&mut facts.media[0]);
        let findings = decide(&facts);
        assert!(findings.iter().any(|finding| finding.remedy == Remedy::Person), "{name}: {findings:?}");
        assert_eq!(next(&findings, &[]), Next::Nothing, "{name}");
    }
    // The footer still says which system it was.
    facts.media[0].boot = Boot::Unreadable("no FAT".into());
    assert_eq!(next(&decide(&facts), &[]), Next::Nothing);
}

#[test]
fn a_volume_of_which_nothing_tells_where_it_is_stays_as_it_is() {
    let mut facts = healthy();
    facts.media[0].volumes.insert("state".into(), Volume::Lost);
    let findings = decide(&facts);
    assert_eq!(next(&findings, &[]), Next::Nothing);
    assert!(findings.iter().any(|finding| finding.remedy == Remedy::Person), "{findings:?}");
}

#[test]
fn of_two_media_none_is_touched_and_of_none_neither() {
    let mut facts = healthy();
    facts.media[0].table = Table::OneCopy;
    facts.media.push(Medium { disk: "sdb".into(), ..facts.media[0].clone() });
    assert_eq!(next(&decide(&facts), &[]), Next::Nothing);
    assert!(decide(&facts)[0].text.contains("vda and sdb"));
    facts.media.clear();
    assert_eq!((next(&decide(&facts), &[]), decide(&facts)[0].remedy.clone()), (Next::Nothing, Remedy::Person));
}

#[test]
fn what_the_machine_does_itself_is_left_to_it() {
    let databases = [
        Database::Damaged("a page".into()),
        Database::Locked("another token".into()),
        Database::Missing,
        Database::Unseen("its volume was not unmounted".into()),
    ];
    for database in databases {
        let mut facts = healthy();
        facts.media[0].database = database;
        facts.sets = 2;
        let findings = decide(&facts);
        assert_eq!((next(&findings, &[]), &findings.last().unwrap().remedy), (Next::Nothing, &Remedy::Machine));
    }
}

#[test]
fn what_does_not_hold_is_not_done_for_ever() {
    let mut facts = healthy();
    DAMAGES.iter().find(|(name, _)| *name == "kernel").unwrap().1(&mut facts.media[0]);
    let findings = decide(&facts);
    let Next::Do(action) = next(&findings, &[]) else { panic!("{findings:?}") };
    assert_eq!(next(&findings, std::slice::from_ref(&action)), Next::DoesntHold(action.clone()));
    let disorder = vec![finding("boot partition", Remedy::Now(Action::MendBoot), "")];
    assert_eq!(next(&disorder, &[Action::MendBoot]), Next::Do(Action::MakeBoot));
    assert_eq!(next(&disorder, &[Action::MendBoot, Action::MakeBoot]), Next::DoesntHold(Action::MakeBoot));
}

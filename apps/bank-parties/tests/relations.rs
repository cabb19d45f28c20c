//! Which relations may be, each rule with a case on either side of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_bank_parties::identity::{CreditCode, IdentityDocument};
use dujiang_bank_parties::party::{HeldDocument, Name};
use dujiang_bank_parties::relation::{Lacking, Relation, RelationKind, RelationRefusal, judge, lacking};
use dujiang_bank_parties::{Party, PartyId, PartyKind};
use jiff::civil::{Date, date};

const TODAY: Date = date(2026, 11, 23);

fn held(document: IdentityDocument) -> HeldDocument {
    HeldDocument { document, valid_from: date(2020, 1, 1), valid_until: Some(date(2030, 1, 1)) }
}

fn id(id: &str) -> PartyId {
    PartyId::new(id).unwrap()
}

fn person(number: &str, born: Date, incapable: bool) -> Party {
    let passport = IdentityDocument::passport("E12345678", "CN").unwrap();
    Party::new(
        id(number),
        Name::new("王小丫").unwrap(),
        PartyKind::Person { born, incapable },
        held(passport),
    )
    .unwrap()
}

fn adult(number: &str) -> Party {
    person(number, date(1980, 5, 1), false)
}

fn child(number: &str) -> Party {
    person(number, date(2015, 5, 1), false)
}

fn company(number: &str) -> Party {
    let code = IdentityDocument::CreditCode(CreditCode::parse("91350100M000100Y43").unwrap());
    Party::new(id(number), Name::new("青神县竹编专业合作社").unwrap(), PartyKind::Company, held(code))
        .unwrap()
}

fn relation(kind: RelationKind, holder: &Party, of: &Party) -> Relation {
    Relation { kind, holder: holder.id().clone(), of: of.id().clone(), from: TODAY, until: None }
}

const OWNER: fn(u16) -> RelationKind = |share_bp| RelationKind::BeneficialOwner { share_bp };

#[test]
fn who_may_be_what_to_whom() {
    use RelationKind::{AuthorisedSignatory, Guardian, LegalRepresentative};
    use RelationRefusal as No;
    let (a, b, kid, ward) = (adult("a"), adult("b"), child("kid"), person("ward", date(1960, 1, 1), true));
    let (firm, other_firm) = (company("firm"), company("other"));
    let cases = [
        (LegalRepresentative, &a, &firm, Ok(())),
        (LegalRepresentative, &kid, &firm, Err(No::NotCapable)),
        (LegalRepresentative, &ward, &firm, Err(No::NotCapable)),
        (LegalRepresentative, &other_firm, &firm, Err(No::NotAPerson)),
        (LegalRepresentative, &a, &b, Err(No::NotACompany)),
        (LegalRepresentative, &a, &a, Err(No::Oneself)),
        (AuthorisedSignatory, &a, &firm, Ok(())),
        (AuthorisedSignatory, &a, &b, Ok(())),
        (AuthorisedSignatory, &kid, &b, Err(No::NotCapable)),
        (AuthorisedSignatory, &a, &kid, Err(No::WardGivesNoAuthority)),
        (AuthorisedSignatory, &a, &ward, Err(No::WardGivesNoAuthority)),
        (OWNER(2_500), &a, &firm, Ok(())),
        (OWNER(2_500), &kid, &firm, Ok(())),
        (OWNER(0), &a, &firm, Ok(())),
        (OWNER(2_499), &a, &firm, Err(No::ShareTooSmall)),
        (OWNER(10_001), &a, &firm, Err(No::ShareBeyondWhole)),
        (OWNER(5_000), &other_firm, &firm, Err(No::NotAPerson)),
        (OWNER(5_000), &a, &b, Err(No::NotACompany)),
        (Guardian, &a, &kid, Ok(())),
        (Guardian, &a, &ward, Ok(())),
        (Guardian, &a, &b, Err(No::NoWard)),
        (Guardian, &a, &firm, Err(No::NoWard)),
        (Guardian, &kid, &ward, Err(No::NotCapable)),
        (Guardian, &ward, &kid, Err(No::NotCapable)),
    ];
    for (kind, holder, of, expected) in cases {
        let judged = judge(&relation(kind, holder, of), holder, of, &[]);
        assert_eq!(judged, expected, "{kind:?} {} of {}", holder.id().as_str(), of.id().as_str());
    }
    let mixed_up = judge(&relation(LegalRepresentative, &a, &firm), &b, &firm, &[]);
    assert_eq!(mixed_up, Err(No::Parties));
    let inverse = Relation { until: Some(date(2026, 11, 22)), ..relation(LegalRepresentative, &a, &firm) };
    assert_eq!(judge(&inverse, &a, &firm, &[]), Err(No::Term));
}

#[test]
fn a_company_has_one_legal_representative_at_a_time() {
    let (a, b, firm) = (adult("a"), adult("b"), company("firm"));
    let first = Relation {
        from: date(2025, 1, 1),
        until: Some(TODAY),
        ..relation(RelationKind::LegalRepresentative, &a, &firm)
    };
    let next = |from| Relation { from, ..relation(RelationKind::LegalRepresentative, &b, &firm) };
    let existing = [first];
    assert_eq!(judge(&next(TODAY), &b, &firm, &existing), Err(RelationRefusal::Taken));
    assert_eq!(judge(&next(date(2026, 11, 24)), &b, &firm, &existing), Ok(()));
}

#[test]
fn shares_come_to_the_whole_at_most() {
    let (a, b, c, firm) = (adult("a"), adult("b"), adult("c"), company("firm"));
    let existing = [relation(OWNER(6_000), &a, &firm), relation(OWNER(0), &c, &firm)];
    let judged = |share| judge(&relation(OWNER(share), &b, &firm), &b, &firm, &existing);
    assert_eq!(judged(4_000), Ok(()));
    assert_eq!(judged(4_001), Err(RelationRefusal::ShareBeyondWhole));
    let again = judge(&relation(OWNER(2_500), &a, &firm), &a, &firm, &existing);
    assert_eq!(again, Err(RelationRefusal::Taken));
}

#[test]
fn a_party_is_complete_when_nothing_is_lacking() {
    let (a, kid, firm) = (adult("a"), child("kid"), company("firm"));
    assert_eq!(lacking(&a, &[], TODAY), []);
    assert_eq!(lacking(&a, &[], date(2030, 1, 2)), [Lacking::Document]);
    assert_eq!(lacking(&kid, &[], TODAY), [Lacking::Guardian]);
    let guardian = [relation(RelationKind::Guardian, &a, &kid)];
    assert_eq!(lacking(&kid, &guardian, TODAY), []);
    assert_eq!(lacking(&kid, &[], date(2029, 12, 31)), [Lacking::Guardian]);
    assert_eq!(lacking(&firm, &[], TODAY), [Lacking::LegalRepresentative, Lacking::BeneficialOwner]);
    let relations =
        [relation(RelationKind::LegalRepresentative, &a, &firm), relation(OWNER(10_000), &a, &firm)];
    assert_eq!(lacking(&firm, &relations, TODAY), []);
    assert_eq!(lacking(&firm, &guardian, TODAY).len(), 2, "relations of others do not count");
}

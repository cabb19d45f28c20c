//! What is written is read as the same; what is read never panics, whatever it is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dujiang_bank_messages::camt053::{self, Balance, Details, Entry, Statement, Statements, TransactionCode};
use dujiang_bank_messages::common::{
    Account, AccountId, Address, AddressLine, Agent, Branch, ChargeBearer, ClearingMember, Coded, OtherId,
    Party, PartyId, PaymentType,
};
use dujiang_bank_messages::{FaultCode, Moment, Terms, pacs008, pain001, status};
use dujiang_types::{Currency, Money};
use jiff::civil::{Date, date};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

// Strategies are boxed: nested by value they outgrow a test's stack.

/// Letters of every kind that XML and people use: Chinese, beyond the basic plane, markup, line ends.
fn text(max: usize) -> impl Strategy<Value = String> {
    let letter = select(vec![
        'a', 'Z', '7', '-', '&', '<', '>', '"', '\'', ']', '四', '川', '𠮷', 'é', '\n', '\r', '\t',
    ]);
    (proptest::collection::vec(letter, 0..max), select(vec!['农', 'x']))
        .prop_map(|(letters, last)| letters.into_iter().chain([last]).collect())
}

fn coded() -> BoxedStrategy<Coded> {
    prop_oneof!["[A-Z0-9]{1,4}".prop_map(Coded::Code), text(35).prop_map(Coded::Proprietary)].boxed()
}

fn moment() -> BoxedStrategy<Moment> {
    // A day from either end of what terms allow: in China it may be the one before or after.
    (1..365_i32, 0..86_400_i32, of(-840..=840_i16))
        .prop_map(|(days, second, offset_minutes)| {
            let day = date(2026, 11, 23) + jiff::Span::new().days(days);
            let time = jiff::civil::time(0, 0, 0, 0) + jiff::Span::new().seconds(second);
            Moment { civil: day.to_datetime(time), offset_minutes }
        })
        .boxed()
}

fn day() -> impl Strategy<Value = Date> {
    (0..366_i32).prop_map(|days| date(2026, 11, 23) + jiff::Span::new().days(days))
}

fn currency() -> impl Strategy<Value = Currency> {
    select(vec!["CNY", "JPY", "KWD"]).prop_map(|code| code.parse().unwrap())
}

fn money() -> BoxedStrategy<Money> {
    (1..=999_999_999_999_999_999_i64, currency())
        .prop_map(|(minor, currency)| Money::new(minor, currency))
        .boxed()
}

fn other_id() -> BoxedStrategy<OtherId> {
    (text(35), of(coded()), of(text(35)))
        .prop_map(|(id, scheme, issuer)| OtherId { id, scheme, issuer })
        .boxed()
}

fn address() -> BoxedStrategy<Address> {
    let lines = (of(text(70)), of(text(16)), of(text(35)), proptest::collection::vec(text(70), 0..=7));
    lines
        .prop_map(|(street, code, town, free)| {
            let line = |kind: AddressLine, text: Option<String>| text.map(|text| (kind, text));
            let first = [
                line(AddressLine::Street, street),
                line(AddressLine::PostCode, code),
                line(AddressLine::Town, town),
                line(AddressLine::Country, Some("CN".into())),
            ];
            let free = free.into_iter().map(|text| (AddressLine::Free, text));
            Address { lines: first.into_iter().flatten().chain(free).collect() }
        })
        .boxed()
}

fn party() -> BoxedStrategy<Party> {
    let others = || proptest::collection::vec(other_id(), 0..3);
    let organisation =
        (of(Just("PCBCCNBJ".to_owned())), of(Just("506700GE1G29325QX363".to_owned())), others())
            .prop_map(|(bic, lei, others)| PartyId::Organisation { bic, lei, others });
    let id = prop_oneof![organisation, others().prop_map(|others| PartyId::Person { others })];
    (text(140), of(address()), of(id), of(Just("CN".to_owned())))
        .prop_map(|(name, address, id, country)| Party {
            name: Some(name),
            address,
            id,
            country_of_residence: country,
        })
        .boxed()
}

fn agent() -> BoxedStrategy<Agent> {
    let member = (of(coded()), text(35)).prop_map(|(system, member)| ClearingMember { system, member });
    let branch = (of(text(35)), of(text(140)), of(address())).prop_map(|(id, name, address)| Branch {
        id,
        lei: None,
        name,
        address,
    });
    (select(vec!["PCBCCNBJ", "ABOCCNBJ110"]), of(member), of(text(140)), of(other_id()), of(branch))
        .prop_map(|(bic, clearing, name, other, branch)| Agent {
            bic: Some(bic.into()),
            clearing,
            name,
            other,
            branch,
            ..Agent::default()
        })
        .boxed()
}

fn account() -> BoxedStrategy<Account> {
    let other = (text(34), of(coded()), of(text(35))).prop_map(|(number, scheme, issuer)| AccountId::Other {
        number,
        scheme,
        issuer,
    });
    let id = prop_oneof![Just(AccountId::Iban("GB29NWBK60161331926819".into())), other];
    (id, of(coded()), of(currency()), of(text(70)))
        .prop_map(|(id, kind, currency, name)| Account { id, kind, currency, name })
        .boxed()
}

fn payment_type() -> BoxedStrategy<PaymentType> {
    (of(any::<bool>()), proptest::collection::vec(coded(), 0..2), of(coded()), of(coded()))
        .prop_map(|(urgent, service_levels, local_instrument, category_purpose)| PaymentType {
            urgent,
            service_levels,
            local_instrument,
            category_purpose,
        })
        .boxed()
}

fn bearer() -> impl Strategy<Value = ChargeBearer> {
    select(ChargeBearer::ALL.to_vec())
}

fn remittance() -> BoxedStrategy<Vec<String>> {
    proptest::collection::vec(text(140), 0..3).boxed()
}

/// Numbers are given afterwards: they must differ from transfer to transfer.
fn ordered() -> BoxedStrategy<pain001::Transfer> {
    let kind = (of(payment_type()), money(), of(agent()), of(agent()), of(coded()), remittance());
    let parties = (of(party()), party(), account(), of(party()));
    (kind, parties)
        .prop_map(|(kind, parties)| pain001::Transfer {
            instruction_id: None,
            end_to_end_id: String::new(),
            uetr: None,
            payment_type: kind.0,
            amount: kind.1,
            charge_bearer: None,
            intermediary: kind.2,
            creditor_agent: kind.3,
            purpose: kind.4,
            remittance: kind.5,
            ultimate_debtor: parties.0,
            creditor: parties.1,
            creditor_account: parties.2,
            ultimate_creditor: parties.3,
        })
        .boxed()
}

fn instruction() -> BoxedStrategy<pain001::Instruction> {
    let execution =
        prop_oneof![day().prop_map(pain001::Execution::Day), moment().prop_map(pain001::Execution::At)];
    let kind = (of(any::<bool>()), of(payment_type()), execution, of(bearer()));
    let parties = (party(), account(), agent(), of(party()));
    (kind, parties, proptest::collection::vec(ordered(), 1..4))
        .prop_map(|(kind, parties, transfers)| pain001::Instruction {
            id: String::new(),
            batch_booking: kind.0,
            payment_type: kind.1,
            execution: kind.2,
            charge_bearer: kind.3,
            debtor: parties.0,
            debtor_account: parties.1,
            debtor_agent: parties.2,
            ultimate_debtor: parties.3,
            transfers,
            refused: Vec::new(),
        })
        .boxed()
}

fn initiation() -> BoxedStrategy<pain001::Initiation> {
    let instructions = proptest::collection::vec(instruction(), 1..3);
    (text(35), moment(), party(), instructions)
        .prop_map(|(message_id, created, initiating_party, instructions)| {
            let mut message = pain001::Initiation {
                message_id,
                created,
                initiating_party,
                instructions,
                refused: Vec::new(),
            };
            for (n, batch) in message.instructions.iter_mut().enumerate() {
                batch.id = format!("批次-{n}");
                for (t, transfer) in batch.transfers.iter_mut().enumerate() {
                    transfer.end_to_end_id = format!("笔-{n}-{t}");
                    // What the instruction says its transfers do not say again.
                    if batch.payment_type.is_some() {
                        transfer.payment_type = None;
                    }
                    if batch.ultimate_debtor.is_some() {
                        transfer.ultimate_debtor = None;
                    }
                    transfer.uetr = Some(format!("00000000-0000-4000-8000-{n:06}{t:06}"));
                }
            }
            message
        })
        .boxed()
}

fn between_banks() -> BoxedStrategy<pacs008::Transfers> {
    let transfer = (ordered(), party(), account(), agent(), agent(), bearer(), of(moment()), day()).prop_map(
        |(
            ordered,
            debtor,
            debtor_account,
            debtor_agent,
            creditor_agent,
            charge_bearer,
            accepted,
            settled_on,
        )| {
            pacs008::Transfer {
                instruction_id: None,
                end_to_end_id: "NOTPROVIDED".into(),
                transaction_id: None,
                uetr: None,
                clearing_reference: None,
                payment_type: ordered.payment_type,
                amount: ordered.amount,
                settled_on,
                priority: Some(pacs008::Priority::High),
                accepted,
                instructed: Some(ordered.amount),
                charge_bearer,
                charges: vec![pacs008::Charge { amount: ordered.amount, agent: debtor_agent.clone() }],
                instructing_agent: None,
                instructed_agent: ordered.creditor_agent,
                intermediary: ordered.intermediary,
                ultimate_debtor: ordered.ultimate_debtor,
                initiating_party: None,
                debtor,
                debtor_account,
                debtor_agent,
                creditor_agent,
                creditor: ordered.creditor,
                creditor_account: ordered.creditor_account,
                ultimate_creditor: ordered.ultimate_creditor,
                purpose: ordered.purpose,
                remittance: ordered.remittance,
            }
        },
    );
    let parts =
        (text(35), moment(), of(payment_type()), of(agent()), proptest::collection::vec(transfer, 1..4));
    parts
        .prop_map(|(message_id, created, payment_type, instructing_agent, transfers)| pacs008::Transfers {
            message_id,
            created,
            settlement: pacs008::Settlement {
                method: pacs008::Method::Clearing,
                account: None,
                clearing_system: Some(Coded::Code("CNP".into())),
            },
            instructing_agent,
            instructed_agent: None,
            transfers: transfers
                .into_iter()
                .enumerate()
                .map(|(n, transfer)| pacs008::Transfer {
                    transaction_id: Some(format!("T{n}")),
                    // What the header says its transfers do not say again.
                    payment_type: if payment_type.is_some() { None } else { transfer.payment_type },
                    ..transfer
                })
                .collect(),
            payment_type,
            refused: Vec::new(),
        })
        .boxed()
}

fn entry() -> BoxedStrategy<(i64, Entry)> {
    let details = (of(text(35)), of(party()), of(account()), of(coded()), remittance()).prop_map(
        |(end_to_end_id, debtor, creditor_account, purpose, remittance)| Details {
            end_to_end_id,
            debtor,
            creditor_account,
            purpose,
            remittance,
            ..Details::default()
        },
    );
    let parts =
        (-1_000_000_000_000..1_000_000_000_000_i64, any::<bool>(), day(), day(), of(details), of(text(500)));
    parts
        .prop_map(|(minor, reversal, booked_on, value_on, details, info)| {
            let entry = Entry {
                reference: None,
                amount: Money::zero(Currency::CNY),
                reversal,
                booked_on,
                value_on,
                servicer_reference: Some("0193-posting".into()),
                code: TransactionCode::new("PMNT", "RCDT", "DMCT"),
                details,
                info,
            };
            (minor, entry)
        })
        .boxed()
}

fn statement() -> BoxedStrategy<Statement> {
    let parts = (text(35), 0..1_000_000_u64, of((moment(), moment())), account(), of(party()), of(agent()));
    let books =
        (-1_000_000_000_000..1_000_000_000_000_i64, currency(), proptest::collection::vec(entry(), 0..5));
    (parts, books, day())
        .prop_map(|(parts, (opening, currency, entries), day)| {
            let closing = opening + entries.iter().map(|(minor, _)| minor).sum::<i64>();
            let entries = entries
                .into_iter()
                .map(|(minor, entry)| Entry { amount: Money::new(minor, currency), ..entry })
                .collect();
            Statement {
                id: parts.0,
                sequence: Some(parts.1),
                created: None,
                period: parts.2,
                account: Account { currency: Some(currency), ..parts.3 },
                owner: parts.4,
                servicer: parts.5,
                opening: Balance { amount: Money::new(opening, currency), day },
                closing: Balance { amount: Money::new(closing, currency), day },
                entries,
            }
        })
        .boxed()
}

fn terms() -> Terms {
    Terms::on(date(2026, 11, 23))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn transfers_of_customers_round_trip(message in initiation()) {
        let written = pain001::write(&message).unwrap();
        prop_assert_eq!(pain001::read(&written, terms()).unwrap(), message);
    }

    #[test]
    fn transfers_between_banks_round_trip(message in between_banks()) {
        let written = pacs008::write(&message).unwrap();
        prop_assert_eq!(pacs008::read(&written, terms()).unwrap(), message);
    }

    #[test]
    fn statements_round_trip(statements in proptest::collection::vec(statement(), 1..3), created in moment()) {
        let message = Statements { message_id: "对账单-1".into(), created, statements };
        let written = camt053::write(&message).unwrap();
        prop_assert_eq!(camt053::read(&written).unwrap(), message);
    }

    #[test]
    fn a_statement_that_does_not_add_up_is_not_written(mut statement in statement(), by in 1..1000_i64) {
        statement.closing.amount.minor += by;
        let created = Moment::china(date(2026, 11, 23).at(0, 0, 0, 0));
        let faults = camt053::write(&Statements { message_id: "1".into(), created, statements: vec![statement] });
        prop_assert_eq!(faults.unwrap_err().told()[0].code, FaultCode::StatementUnbalanced);
    }

    /// A message with bytes changed, cut out or put in is read or refused, and nothing else.
    #[test]
    fn damaged_messages_never_panic(message in initiation(), at in any::<prop::sample::Index>(), cut in 0..40_usize, put in "\\PC{0,6}|[<>&;/]{0,6}") {
        let written = String::from_utf8(pain001::write(&message).unwrap()).unwrap();
        let at = at.index(written.len());
        let mut bytes = written.into_bytes();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put.into_bytes());
        let _ = pain001::read(&bytes, terms());
        let _ = pacs008::read(&bytes, terms());
        let _ = camt053::read(&bytes);
        let _ = status::read_to_bank(&bytes);
        let _ = status::Original::peek(&bytes, pain001::NAME);
    }
}

#[test]
fn what_the_schema_refuses_is_not_written() {
    let created = Moment::china(date(2026, 11, 23).at(0, 0, 0, 0));
    let message = pain001::Initiation {
        message_id: "x".repeat(36),
        created,
        initiating_party: Party::named("a"),
        instructions: Vec::new(),
        refused: Vec::new(),
    };
    let faults = pain001::write(&message).unwrap_err();
    let codes: Vec<_> = faults.told().iter().map(|fault| fault.code).collect();
    assert_eq!(codes, [FaultCode::ValueTooLong, FaultCode::ElementMissing]);
}

#[test]
fn what_would_not_be_read_is_not_written() {
    let transfer = pain001::Transfer {
        instruction_id: None,
        end_to_end_id: "1".into(),
        uetr: None,
        payment_type: None,
        amount: Money::new(100, Currency::CNY),
        charge_bearer: None,
        ultimate_debtor: None,
        intermediary: None,
        creditor_agent: None,
        creditor: Party::named("李雷"),
        creditor_account: Account::own("6200010000000025"),
        ultimate_creditor: None,
        purpose: None,
        remittance: Vec::new(),
    };
    let batch = pain001::Instruction {
        id: "A".into(),
        batch_booking: None,
        payment_type: None,
        execution: pain001::Execution::Day(date(2026, 11, 23)),
        debtor: Party::named("韩梅梅"),
        debtor_account: Account::own("6200010000000017"),
        debtor_agent: Agent::cnaps("402651000011"),
        ultimate_debtor: None,
        charge_bearer: None,
        transfers: vec![transfer.clone()],
        refused: Vec::new(),
    };
    let write = |batch: pain001::Instruction| {
        let created = Moment::china(date(2026, 11, 23).at(0, 0, 0, 0));
        let message = pain001::Initiation {
            message_id: "1".into(),
            created,
            initiating_party: Party::named("a"),
            instructions: vec![batch],
            refused: Vec::new(),
        };
        pain001::write(&message)
    };
    assert!(write(batch.clone()).is_ok());
    let code = |batch| write(batch).unwrap_err().told()[0].code;
    let twice = pain001::Instruction { transfers: vec![transfer.clone(), transfer.clone()], ..batch.clone() };
    assert_eq!(code(twice), FaultCode::IdentifierDuplicate);
    let nobody = pain001::Instruction { debtor_agent: Agent::default(), ..batch.clone() };
    assert_eq!(code(nobody), FaultCode::AgentIdentifier);
    let many = (0..=dujiang_bank_messages::TRANSFERS_MAX)
        .map(|n| pain001::Transfer { end_to_end_id: n.to_string(), ..transfer.clone() });
    let many = pain001::Instruction { transfers: many.collect(), ..batch };
    assert_eq!(code(many), FaultCode::XmlTooLarge);
}

#[test]
fn changed_totals_of_a_statement_are_noticed() {
    let day = date(2026, 11, 23);
    let balance = |minor| Balance { amount: Money::new(minor, Currency::CNY), day };
    let statement = Statement {
        id: "1".into(),
        sequence: None,
        created: None,
        period: None,
        account: Account::own("6200010000000017"),
        owner: None,
        servicer: None,
        opening: balance(100),
        closing: balance(-50),
        entries: vec![Entry {
            reference: None,
            amount: Money::new(-150, Currency::CNY),
            reversal: false,
            booked_on: day,
            value_on: day,
            servicer_reference: None,
            code: TransactionCode::new("PMNT", "ICDT", "DMCT"),
            details: None,
            info: None,
        }],
    };
    let message = Statements {
        message_id: "1".into(),
        created: Moment::china(day.at(0, 0, 0, 0)),
        statements: vec![statement],
    };
    let written = String::from_utf8(camt053::write(&message).unwrap()).unwrap();
    for (from, to, code) in [
        ("<NbOfNtries>1<", "<NbOfNtries>2<", FaultCode::SumMismatch),
        ("<Sum>1.5<", "<Sum>1.6<", FaultCode::SumMismatch),
        (">0.50</Amt>", ">0.51</Amt>", FaultCode::StatementUnbalanced),
        ("CLBD", "OPBD", FaultCode::ElementMissing),
        ("BOOK", "PDNG", FaultCode::ValueCode),
    ] {
        assert!(written.contains(from), "{from} in {written}");
        let faults = camt053::read(written.replacen(from, to, 1).as_bytes()).expect_err(to);
        assert_eq!(faults.told()[0].code, code, "{faults}");
    }
    let net = |amount: &str, direction: &str| {
        let net = format!("<TtlNetNtry><Amt>{amount}</Amt><CdtDbtInd>{direction}</CdtDbtInd></TtlNetNtry>");
        let said = written.replacen("<Sum>1.5</Sum>", &format!(" <Sum>01.50</Sum>\n{net}"), 1);
        camt053::read(said.as_bytes()).map(|read| read == message)
    };
    assert_eq!(net("1.5", "DBIT"), Ok(true), "numbers count, and not how they are written");
    for (amount, direction) in [("1.5", "CRDT"), ("1.51", "DBIT")] {
        assert_eq!(net(amount, direction).unwrap_err().told()[0].code, FaultCode::SumMismatch);
    }
}

//! TABLE: what a page of the node's own says, by what happened and language, in the order of [`crate::language::TAGS`].

use crate::language::{COUNT, Language};

/// What happened, as far as a visitor is told: one for everything that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    Refused,
    TooMany,
    Unavailable,
    Maintenance,
    TooLarge,
    NothingHere,
    NotHandled,
}

impl Says {
    /// All, in the order of their places.
    pub(crate) const ALL: [Self; 7] = [
        Self::Refused,
        Self::TooMany,
        Self::Unavailable,
        Self::Maintenance,
        Self::TooLarge,
        Self::NothingHere,
        Self::NotHandled,
    ];

    /// Title and text.
    pub(crate) fn words(self, language: Language) -> (&'static str, &'static str) {
        let (titles, texts) = match self {
            Self::Refused => (&REFUSED.0, &REFUSED.1),
            Self::TooMany => (&TOO_MANY.0, &TOO_MANY.1),
            Self::Unavailable => (&UNAVAILABLE.0, &UNAVAILABLE.1),
            Self::Maintenance => (&MAINTENANCE.0, &MAINTENANCE.1),
            Self::TooLarge => (&TOO_LARGE.0, &TOO_LARGE.1),
            Self::NothingHere => (&NOTHING_HERE.0, &NOTHING_HERE.1),
            Self::NotHandled => (&NOT_HANDLED.0, &NOT_HANDLED.1),
        };
        (language.pick(titles), language.pick(texts))
    }
}

type Words = [&'static str; COUNT];

const REFUSED: (Words, Words) = (
    [
        "Request refused",
        "Anfrage abgelehnt",
        "Requête refusée",
        "Solicitud rechazada",
        "Richiesta rifiutata",
        "Pedido recusado",
        "Verzoek geweigerd",
        "Żądanie odrzucone",
    ],
    [
        "This request was refused. If you think that is a mistake, tell the site’s owner the request id below.",
        "Diese Anfrage wurde abgelehnt. Wenn Sie das für einen Irrtum halten, nennen Sie dem Betreiber der Seite die Nummer der Anfrage, die unten steht.",
        "Cette requête a été refusée. Si vous pensez qu’il s’agit d’une erreur, communiquez au responsable du site le numéro de requête ci-dessous.",
        "Esta solicitud ha sido rechazada. Si cree que es un error, comunique al responsable del sitio el número de solicitud que figura abajo.",
        "Questa richiesta è stata rifiutata. Se pensa che sia un errore, comunichi al gestore del sito il numero della richiesta riportato qui sotto.",
        "Este pedido foi recusado. Se acha que é um engano, comunique ao responsável do site o número do pedido indicado abaixo.",
        "Dit verzoek is geweigerd. Denkt u dat dit een vergissing is, geef de beheerder van de site dan het nummer van het verzoek hieronder door.",
        "To żądanie zostało odrzucone. Jeśli uważasz, że to pomyłka, podaj właścicielowi witryny poniższy numer żądania.",
    ],
);

const TOO_MANY: (Words, Words) = (
    [
        "Too many requests",
        "Zu viele Anfragen",
        "Trop de requêtes",
        "Demasiadas solicitudes",
        "Troppe richieste",
        "Demasiados pedidos",
        "Te veel verzoeken",
        "Zbyt wiele żądań",
    ],
    [
        "You have asked too often. Please try again in a while.",
        "Von Ihnen kamen zu viele Anfragen. Bitte versuchen Sie es in einer Weile noch einmal.",
        "Vous avez envoyé trop de requêtes. Veuillez réessayer dans un moment.",
        "Ha enviado demasiadas solicitudes. Vuelva a intentarlo dentro de un rato.",
        "Ha inviato troppe richieste. Riprovi tra un po’.",
        "Enviou demasiados pedidos. Tente de novo daqui a pouco.",
        "U hebt te veel verzoeken verzonden. Probeer het over een tijdje opnieuw.",
        "Wysłano zbyt wiele żądań. Spróbuj ponownie za jakiś czas.",
    ],
);

const UNAVAILABLE: (Words, Words) = (
    [
        "Service unavailable",
        "Dienst nicht verfügbar",
        "Service indisponible",
        "Servicio no disponible",
        "Servizio non disponibile",
        "Serviço indisponível",
        "Dienst niet beschikbaar",
        "Usługa niedostępna",
    ],
    [
        "This service cannot answer at the moment. Please try again later.",
        "Dieser Dienst kann gerade nicht antworten. Bitte versuchen Sie es später noch einmal.",
        "Ce service ne peut pas répondre pour le moment. Veuillez réessayer plus tard.",
        "Este servicio no puede responder en este momento. Vuelva a intentarlo más tarde.",
        "Questo servizio al momento non può rispondere. Riprovi più tardi.",
        "Este serviço não consegue responder neste momento. Tente de novo mais tarde.",
        "Deze dienst kan op dit moment niet antwoorden. Probeer het later opnieuw.",
        "Ta usługa nie może teraz odpowiedzieć. Spróbuj ponownie później.",
    ],
);

const MAINTENANCE: (Words, Words) = (
    [
        "Down for maintenance",
        "Wartungsarbeiten",
        "Maintenance en cours",
        "En mantenimiento",
        "In manutenzione",
        "Em manutenção",
        "Onderhoud",
        "Prace konserwacyjne",
    ],
    [
        "This site is being worked on. Please try again later.",
        "An dieser Seite wird gerade gearbeitet. Bitte versuchen Sie es später noch einmal.",
        "Ce site est en cours de maintenance. Veuillez réessayer plus tard.",
        "Se está trabajando en este sitio. Vuelva a intentarlo más tarde.",
        "Sono in corso lavori su questo sito. Riprovi più tardi.",
        "Este site está em manutenção. Tente de novo mais tarde.",
        "Er wordt aan deze site gewerkt. Probeer het later opnieuw.",
        "Trwają prace nad tą witryną. Spróbuj ponownie później.",
    ],
);

const TOO_LARGE: (Words, Words) = (
    [
        "Request too large",
        "Anfrage zu groß",
        "Requête trop volumineuse",
        "Solicitud demasiado grande",
        "Richiesta troppo grande",
        "Pedido demasiado grande",
        "Verzoek te groot",
        "Żądanie zbyt duże",
    ],
    [
        "More was sent than is taken here. It was not passed on.",
        "Es wurde mehr gesendet, als hier angenommen wird. Es wurde nicht weitergegeben.",
        "L’envoi dépasse ce qui est accepté ici. Il n’a pas été transmis.",
        "Se ha enviado más de lo que aquí se admite. No se ha transmitido.",
        "È stato inviato più di quanto qui si accetti. Non è stato inoltrato.",
        "Foi enviado mais do que aqui se aceita. Não foi transmitido.",
        "Er is meer verzonden dan hier wordt aangenomen. Het is niet doorgegeven.",
        "Wysłano więcej, niż jest tu przyjmowane. Nie zostało to przekazane.",
    ],
);

const NOTHING_HERE: (Words, Words) = (
    [
        "Nothing here",
        "Hier ist nichts",
        "Rien ici",
        "Aquí no hay nada",
        "Qui non c’è nulla",
        "Não há nada aqui",
        "Hier is niets",
        "Tu nic nie ma",
    ],
    [
        "There is nothing at this address.",
        "Unter dieser Adresse gibt es nichts.",
        "Il n’y a rien à cette adresse.",
        "No hay nada en esta dirección.",
        "A questo indirizzo non c’è nulla.",
        "Não há nada neste endereço.",
        "Er is niets op dit adres.",
        "Pod tym adresem nic nie ma.",
    ],
);

const NOT_HANDLED: (Words, Words) = (
    [
        "Bad request",
        "Ungültige Anfrage",
        "Requête incorrecte",
        "Solicitud incorrecta",
        "Richiesta non valida",
        "Pedido inválido",
        "Ongeldig verzoek",
        "Nieprawidłowe żądanie",
    ],
    [
        "The request could not be handled and was not passed on.",
        "Die Anfrage konnte nicht bearbeitet werden und wurde nicht weitergegeben.",
        "La requête n’a pas pu être traitée et n’a pas été transmise.",
        "La solicitud no se ha podido tramitar y no se ha transmitido.",
        "La richiesta non ha potuto essere elaborata e non è stata inoltrata.",
        "O pedido não pôde ser tratado e não foi transmitido.",
        "Het verzoek kon niet worden verwerkt en is niet doorgegeven.",
        "Żądanie nie mogło zostać obsłużone i nie zostało przekazane.",
    ],
);

/// What the id is called.
pub(super) const REQUEST_ID: Words = [
    "Request id",
    "Nummer der Anfrage",
    "Numéro de requête",
    "Número de solicitud",
    "Numero della richiesta",
    "Número do pedido",
    "Nummer van het verzoek",
    "Numer żądania",
];

/// Who is to be told.
pub(super) const CONTACT: Words =
    ["Contact", "Kontakt", "Contact", "Contacto", "Contatto", "Contacto", "Contact", "Kontakt"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_words_that_html_takes_as_they_are() {
        for language in Language::all() {
            for says in Says::ALL {
                let (title, text) = says.words(language);
                for words in [title, text, language.pick(&REQUEST_ID), language.pick(&CONTACT)] {
                    assert!(!words.is_empty() && !words.contains(['<', '>', '&', '"']), "{words}");
                }
            }
        }
    }
}

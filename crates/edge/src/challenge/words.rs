//! TABLE: what the page says, by language.

use crate::language::{COUNT, Language};

/// The page's texts in one language.
#[derive(Debug)]
pub(super) struct Words {
    /// As in RFC 5646.
    pub(super) language: &'static str,
    pub(super) title: &'static str,
    pub(super) working: &'static str,
    /// Without cookies nothing helps.
    pub(super) stopped: &'static str,
    /// `{n}`: so many seconds.
    pub(super) wait: &'static str,
    pub(super) go: &'static str,
    pub(super) early: &'static str,
    pub(super) not_passed_on: &'static str,
    pub(super) needs_scripts: &'static str,
    pub(super) number: &'static str,
}

/// The words in a language; the texts of all stand in the order of [`crate::language::TAGS`].
pub(super) fn of(language: Language) -> &'static Words {
    ALL.get(language.index()).unwrap_or(&ENGLISH)
}

const ENGLISH: Words = Words {
    language: "en",
    title: "One moment, please",
    working: "We are making sure that you are not a program. You do not have to do anything.",
    stopped: "Your browser keeps no cookies for this site. Please allow them and load the page again.",
    wait: "Scripts do not run in your browser. Please wait {n} seconds, then press the button.",
    go: "Continue",
    early: "That was a little early. Please wait a few seconds more, then press the button again.",
    not_passed_on: "What you sent was not passed on. Please send it again afterwards.",
    needs_scripts: "This site needs scripts for this. Please allow them in your browser and load the page again.",
    number: "Request id:",
};

const ALL: [Words; COUNT] = [
    ENGLISH,
    Words {
        language: "de",
        title: "Einen Moment, bitte",
        working: "Wir stellen sicher, dass Sie kein Programm sind. Sie müssen nichts tun.",
        stopped: "Ihr Browser speichert für diese Seite keine Cookies. Bitte erlauben Sie sie und laden Sie die Seite neu.",
        wait: "In Ihrem Browser laufen keine Skripte. Bitte warten Sie {n} Sekunden und drücken Sie dann den Knopf.",
        go: "Weiter",
        early: "Das war etwas zu früh. Bitte warten Sie noch ein paar Sekunden und drücken Sie den Knopf noch einmal.",
        not_passed_on: "Was Sie gesendet haben, wurde nicht weitergegeben. Bitte senden Sie es danach noch einmal.",
        needs_scripts: "Diese Seite braucht dafür Skripte. Bitte erlauben Sie sie im Browser und laden Sie die Seite neu.",
        number: "Nummer der Anfrage:",
    },
    Words {
        language: "fr",
        title: "Un instant, s’il vous plaît",
        working: "Nous vérifions que vous n’êtes pas un programme. Vous n’avez rien à faire.",
        stopped: "Votre navigateur ne garde pas de cookies pour ce site. Veuillez les autoriser et recharger la page.",
        wait: "Les scripts ne fonctionnent pas dans votre navigateur. Veuillez attendre {n} secondes, puis appuyer sur le bouton.",
        go: "Continuer",
        early: "C’était un peu trop tôt. Veuillez attendre encore quelques secondes, puis appuyer de nouveau sur le bouton.",
        not_passed_on: "Ce que vous avez envoyé n’a pas été transmis. Veuillez l’envoyer de nouveau ensuite.",
        needs_scripts: "Ce site a besoin de scripts pour cela. Veuillez les autoriser dans votre navigateur et recharger la page.",
        number: "Numéro de la requête :",
    },
    Words {
        language: "es",
        title: "Un momento, por favor",
        working: "Estamos comprobando que usted no es un programa. No tiene que hacer nada.",
        stopped: "Su navegador no guarda cookies de este sitio. Permítalas y vuelva a cargar la página.",
        wait: "Los scripts no funcionan en su navegador. Espere {n} segundos y pulse el botón.",
        go: "Continuar",
        early: "Ha sido un poco pronto. Espere unos segundos más y vuelva a pulsar el botón.",
        not_passed_on: "Lo que ha enviado no se ha transmitido. Vuelva a enviarlo después.",
        needs_scripts: "Este sitio necesita scripts para esto. Permítalos en su navegador y vuelva a cargar la página.",
        number: "Número de la solicitud:",
    },
    Words {
        language: "it",
        title: "Un momento, per favore",
        working: "Stiamo verificando che lei non sia un programma. Non deve fare nulla.",
        stopped: "Il suo browser non conserva cookie per questo sito. Li consenta e ricarichi la pagina.",
        wait: "Nel suo browser gli script non funzionano. Attenda {n} secondi, poi prema il pulsante.",
        go: "Continua",
        early: "Era un po’ presto. Attenda ancora qualche secondo, poi prema di nuovo il pulsante.",
        not_passed_on: "Ciò che ha inviato non è stato inoltrato. Lo invii di nuovo dopo.",
        needs_scripts: "Per questo il sito ha bisogno di script. Li consenta nel browser e ricarichi la pagina.",
        number: "Numero della richiesta:",
    },
    Words {
        language: "pt",
        title: "Um momento, por favor",
        working: "Estamos a verificar que não é um programa. Não precisa de fazer nada.",
        stopped: "O seu navegador não guarda cookies deste site. Permita-os e carregue a página de novo.",
        wait: "Os scripts não funcionam no seu navegador. Espere {n} segundos e prima o botão.",
        go: "Continuar",
        early: "Foi um pouco cedo. Espere mais alguns segundos e prima o botão de novo.",
        not_passed_on: "O que enviou não foi transmitido. Envie-o de novo depois.",
        needs_scripts: "Este site precisa de scripts para isto. Permita-os no navegador e carregue a página de novo.",
        number: "Número do pedido:",
    },
    Words {
        language: "nl",
        title: "Een ogenblik, alstublieft",
        working: "We controleren of u geen programma bent. U hoeft niets te doen.",
        stopped: "Uw browser bewaart geen cookies voor deze site. Sta ze toe en laad de pagina opnieuw.",
        wait: "In uw browser werken geen scripts. Wacht {n} seconden en druk dan op de knop.",
        go: "Verder",
        early: "Dat was iets te vroeg. Wacht nog een paar seconden en druk dan opnieuw op de knop.",
        not_passed_on: "Wat u hebt verzonden, is niet doorgegeven. Verzend het daarna opnieuw.",
        needs_scripts: "Deze site heeft hiervoor scripts nodig. Sta ze toe in uw browser en laad de pagina opnieuw.",
        number: "Nummer van het verzoek:",
    },
    Words {
        language: "pl",
        title: "Jedną chwilę, proszę",
        working: "Sprawdzamy, czy nie jesteś programem. Nie musisz nic robić.",
        stopped: "Twoja przeglądarka nie zapisuje plików cookie tej witryny. Zezwól na nie i załaduj stronę ponownie.",
        wait: "W Twojej przeglądarce nie działają skrypty. Poczekaj {n} s, a potem naciśnij przycisk.",
        go: "Dalej",
        early: "To było trochę za wcześnie. Poczekaj jeszcze kilka sekund i naciśnij przycisk ponownie.",
        not_passed_on: "To, co wysłano, nie zostało przekazane. Wyślij to potem jeszcze raz.",
        needs_scripts: "Ta witryna potrzebuje do tego skryptów. Zezwól na nie w przeglądarce i załaduj stronę ponownie.",
        number: "Numer żądania:",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_stand_in_the_order_of_the_languages() {
        for language in Language::all() {
            assert_eq!(of(language).language, language.tag());
        }
    }

    #[test]
    fn every_language_says_how_long_and_nothing_that_html_would_take_for_its_own() {
        for words in &ALL {
            assert!(words.wait.contains("{n}"), "{}", words.language);
            for text in [
                words.title,
                words.working,
                words.stopped,
                words.wait,
                words.go,
                words.early,
                words.not_passed_on,
                words.needs_scripts,
                words.number,
            ] {
                assert!(!text.is_empty() && !text.contains(['<', '>', '&', '"']), "{text}");
            }
        }
    }
}

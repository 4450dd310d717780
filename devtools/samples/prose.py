"""Generates free texts from fragments (an opening, a subject, an ending) by topic and mood.

A topic is a list of parts; one fragment of each is taken, and a part that holds "" may be left out. `{x}` is filled
from `FILLERS`. A topic with moods has parts for `good`, `mixed` and `bad`, so that the text matches the rating.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

Parts = Sequence[Sequence[str]]
Moods = Mapping[str, Parts]

FILLERS: Final[dict[str, Sequence[str]]] = {
    "thing": ("the calendar", "the export", "the search", "the new editor", "the invoice page", "the map",
              "the sign-in",
              "the reminder e-mails", "the monthly report", "the mobile view"),
    "part": ("Save", "Send", "Export", "Next", "the date", "the second page", "a photo", "my name", "the filter"),
    "browser": ("Firefox", "Chrome", "Safari", "Edge", "the tablet", "my phone"),
    "when": ("since this morning", "since Tuesday", "after the last update", "for about a week",
             "every evening around six",
             "since we moved offices", "since yesterday afternoon"),
    "person": ("Grace", "Tobias", "Amina", "the lady at the desk", "your colleague", "Mr Okafor", "the whole team"),
    "n": ("two", "three", "four", "five", "a dozen"),
    "field": ("teaching", "logistics", "health care", "publishing", "public service", "software", "hospitality"),
    "chose": ("l'accueil", "le choix", "l'équipe", "le cadre", "la rapidité", "les horaires", "le rapport qualité-prix",
              "l'organisation"),
    "souci": ("l'attente", "le parking", "le bruit", "la signalétique", "les horaires du dimanche", "l'application",
              "les files au guichet"),
    "quand": ("samedi dernier", "en fin de journée", "pendant les vacances", "un mardi matin", "la semaine passée"),
}  # fmt: skip

_ENGLISH_FEEDBACK: Final[Moods] = {
    "good": (
        ("It simply works.", "Honestly, I had expected less.", "Very happy so far.", "A pleasure to use.", "Great.",
         "We switched last year and never looked back.", "I recommend it to everybody in {field}.", "Well done."),
        ("{thing:u} saves me {n} hours a week.", "{person:u} answered within minutes and knew what I meant.",
         "What convinced me was {thing}.", "Setting it up took us less than an afternoon.",
         "My colleagues in {field} picked it up without training.", "I like that {thing} does not get in my way.",
         "Even {thing} is clear now.", "It still loads quickly on the train."),
        ("", "Thank you!", "Please keep it this simple.", "Give {person} a raise.", "One wish: a dark mode.",
         "Looking forward to what comes next.", "The price is fair, too."),
    ),
    "mixed": (
        ("Good, but not great.", "It does what it should.", "Mostly fine.", "I am of two minds.", "Getting better.",
         "Useful once you know your way around."),
        ("{thing:u} is excellent, {thing} less so.", "I still need {n} clicks for something I do every day.",
         "{thing:u} could be faster.", "I had to ask {person} how {thing} works.",
         "It has been a little slow {when}.", "The help pages are out of date in places.", "The price went up again."),
        ("", "Otherwise fine.", "I will look again in spring.", "A short video would help.",
         "Nothing dramatic, though."),
    ),
    "bad": (
        ("Disappointing.", "I am looking for an alternative.", "Sorry, but no.", "This cost me a whole morning.",
         "It used to be better."),
        ("{thing:u} has been broken {when}.", "I wrote {n} times and never got an answer.",
         "I lost what I had typed when I pressed {part}.", "In {browser} the page stays empty.",
         "Nobody could tell me why {thing} changed.", "We pay for {n} seats and can use one."),
        ("Please fix it.", "I would like my money back.", "", "If {person} had not helped, I would have left already.",
         "Call me if you want to know more."),
    ),
}  # fmt: skip

_FRENCH_FEEDBACK: Final[Moods] = {
    "good": (
        ("Très satisfaite.", "Rien à redire.", "Une belle surprise.", "Bravo à toute l'équipe !",
         "Parfait, comme toujours.",
         "Nous reviendrons."),
        ("J'ai surtout apprécié {chose}.", "{chose:u} et {chose} font la différence.",
         "On m'a tout expliqué avec patience.", "Tout était prêt quand je suis arrivé, {quand}.",
         "Mes enfants en parlent encore.", "On sent que chacun aime ce qu'il fait."),
        ("", "Merci !", "Continuez ainsi.", "À très bientôt.", "Un grand merci à Nadia."),
    ),
    "mixed": (
        ("Bien dans l'ensemble.", "Correct, sans plus.", "Avis partagé.", "Il y a du mieux."),
        ("{chose:u} est au rendez-vous, mais {souci} reste un problème.", "Seul bémol : {souci}.",
         "J'y suis passée {quand} et il a fallu patienter.", "Dommage pour {souci}.",
         "Le site n'indiquait pas les bons horaires."),
        ("", "À revoir.", "Je redonnerai une chance au printemps.", "Pour le reste, rien à dire."),
    ),
    "bad": (
        ("Déçu.", "Je ne reviendrai pas.", "Très en dessous de ce qu'on m'avait dit.", "Quel dommage."),
        ("{souci:u}, c'est devenu impossible.", "Personne n'a su me répondre {quand}.",
         "J'ai attendu plus d'une heure.", "Ma réservation n'avait pas été enregistrée.",
         "J'ai écrit deux fois, sans réponse."),
        ("", "Merci de me rappeler.", "J'espère que cela va changer.", "C'était mieux avant les travaux."),
    ),
}  # fmt: skip


def _moodless(*parts: Sequence[str]) -> Moods:
    """Declare a topic without moods."""
    return {"good": parts, "mixed": parts, "bad": parts}


TOPICS: Final[dict[str, Moods]] = {
    "feedback_reason": _ENGLISH_FEEDBACK,
    "feedback_course": {
        "good": (("Nothing, really.", "Keep the small groups.", "Only the room.", "More of it!"),
                 ("", "A second term would be wonderful.", "Maybe {n} more sessions.", "The breaks could be longer.")),
        "mixed": (("A little less theory.", "Start with examples.", "Share the slides before the lesson."),
                  ("", "The pace was uneven.", "Week {n} was too full.", "It was hard to hear from the back.")),
        "bad": (("Too fast for beginners.", "The description promised something else.", "The equipment was broken."),
                ("We waited for {person} {n} times.", "Half of the exercises could not be done.", "")),
    },
    "learned": _moodless(
        ("To ask earlier.", "That practice beats talent.", "A method I can use on Monday.", "Confidence, mostly.",
         "{n:u} pages of notes and a new friend.", "That I knew more than I thought.", "The exercises on {thing}."),
        ("", "I have tried it at work in {field} already.", "And the reading list.", "Thanks to {person}."),
    ),
    "speaker_question": _moodless(
        ("How did you begin", "What would you do differently", "How do you measure success",
         "What did your first users say", "How many people does it take"),
        ("in {field}?", "with a small budget?", "if nobody in the office has time?", "when the funding ends?",
         "in a town of ten thousand people?"),
    ),
    "issue": _moodless(
        ("{thing:u} has not worked {when}.", "I cannot get past {part}.", "After pressing {part}, nothing happens.",
         "The page says that I am not allowed to open {thing}.", "My changes disappear when I press {part}."),
        ("I expected to see a confirmation.", "It worked in {browser} before.",
         "A colleague sees the same in {browser}.",
         "It happened {n} times today.", "There is no error message at all.", "Other pages are fine."),
        ("", "We have a deadline tomorrow.", "A screenshot is on its way.", "It is not urgent, but annoying.",
         "Could {person} call me?", "Thank you for your help."),
    ),
    "bug_steps": _moodless(
        ("1. Open {thing}.", "1. Sign in with {browser}.", "1. Start with an empty project.",
         "1. Go offline, open {thing}."),
        ("\n2. Change {part}.", "\n2. Press {part} twice, quickly.", "\n2. Scroll to the end and choose {part}.",
         "\n2. Rotate the screen."),
        ("\n3. Wait for {n} seconds.", "\n3. Go back.", "\n3. Press {part}.", "\n3. Reload."),
        ("\n\nExpected: my change is kept.\nSeen: the old value.",
         "\n\nThe page freezes; {browser} offers to close it.",
         "\n\nAn empty page, no message.", "\n\nThe entry is there twice.",
         "\n\nIt takes a minute. Fine in {browser}."),
    ),
    "motivation": _moodless(
        ("I have followed your work for years.", "A friend who works with you told me about the post.",
         "Your last project made me write this letter.", "After ten years in {field} I am looking for something new.",
         "I grew up three streets from your workshop."),
        ("In my present job I look after {n} colleagues and a tight budget.",
         "I like to explain difficult things in simple words.", "Last year I led the move to a new system in {field}.",
         "I am most useful where two teams do not understand each other.", "I work carefully and finish what I begin."),
        ("What I would like to learn is how you do {field} at your scale.", "I would love to show you what I mean.",
         "References from {field} are attached.", "I could start part-time.", "I look forward to meeting you."),
    ),
    "volunteer_note": _moodless(
        ("I can bring {n} more people.", "I have a van.", "My dog comes along.", "First time for me!",
         "I cannot lift anything heavy.", "Happy to do the washing-up."),
        ("", "See you there.", "Please tell {person} that I said hello.", "I may be a little late."),
    ),
    "commentaire": _FRENCH_FEEDBACK,
    "traitement": _moodless(
        ("Aucun.", "Vitamine D, une ampoule par mois.", "Antihistaminique au printemps.", "Paracétamol si besoin.",
         "Lévothyroxine 75 µg, le matin.", "Magnésium, le soir.", "Traitement pour la tension, une fois par jour."),
        ("", "Depuis deux ans.", "Prescrit par mon médecin traitant.", "Bien toléré.", "Ordonnance jointe."),
    ),
    "projet": _moodless(
        ("Maison de 1962, environ 110 m².", "Local de 60 m² en centre-ville.", "Document de quarante pages.",
         "Jardin en pente, exposé au sud.", "Une quarantaine d'invités."),
        ("Nous aimerions commencer par le plus urgent.", "L'accès se fait par une petite cour.",
         "Une première étude existe déjà.", "Le budget est serré mais sérieux.", "Nous avons trois mois devant nous."),
        ("", "Une visite est possible le samedi.", "Merci de préciser les délais.", "Photos sur demande."),
    ),
    "mot": _moodless(
        ("Hâte d'y être !", "Merci pour l'invitation.", "Quelle bonne idée.", "Nous apportons le fromage.",
         "Je viens avec ma sœur.", "Désolée, nous serons en voyage."),
        ("", "Grosses bises.", "Prévoyez une chaise pour mamie.", "On peut héberger deux personnes.", "À très vite."),
    ),
}  # fmt: skip

# Short answers, of which one is chosen.
LINES: Final[dict[str, Sequence[str]]] = {
    "company": ("Harbour & Sons", "Studio K", "Kestrel Rentals", "City Library", "Bluefern Ltd", "Cedar Clinic",
                "Granite Works", "Openfield School", "self-employed", "Tidal Cooperative"),
    "current_job": ("Shift manager", "Teaching assistant", "Software developer", "Freelance illustrator", "Nurse",
                    "Archivist", "Warehouse planner", "Student", "Chef de partie", "Surveyor"),
    "diet_other": ("No nuts, please", "Halal", "Kosher", "No shellfish", "Low salt", "Lactose-free"),
    "subject": ("Cannot sign in", "Export is empty", "Wrong amount on the invoice", "Page stays white",
                "Lost my changes",
                "Reminder arrives twice", "Please delete my account", "Printer not found", "Question about my plan"),
    "bug_title": ("Crash when saving twice", "Date jumps back a day", "Umlauts are shown as question marks",
                  "Scroll position is lost", "Button is hidden on small screens", "Search ignores accents",
                  "Copy and paste drops line breaks", "Notification after it was read"),
    "version": ("4.0.2", "4.1.0", "4.1.1", "4.2.0-beta", "3.9.7", "4.1.3"),
    "gift_message": ("Happy birthday, dear Rosie!", "With love from all of us", "For your new home", "Get well soon",
                     "Thank you for everything"),
    "allergies_detail": ("Pollen de bouleau", "Pénicilline", "Arachides", "Acariens", "Piqûres de guêpe", "Latex",
                         "Fruits de mer"),
    "chanson": ("n'importe quoi d'ABBA", "La Bohème", "quelque chose d'Angèle", "un bon vieux rock",
                "Alexandrie Alexandra",
                "du zouk, s'il vous plaît"),
    "societe": ("Menuiserie Gauthier", "Papier & Cie", "SCOP Le Lac", "Maison Verte SARL", "Cabinet Moreau"),
}  # fmt: skip

_OTHER: Final = ("See above.", "Nothing to add.", "As discussed.", "Please call me first.", "The same as last time.")
_PLACE = re.compile(r"\{(\w+)(:u)?\}")


def text(topic: str, mood: str, rng: Random) -> str:
    """A few sentences on a topic (a field's id) in a mood: good, mixed or bad."""
    if topic not in TOPICS:
        return rng.choice(_OTHER)
    said = [rng.choice(part) for part in TOPICS[topic][mood]]
    joined = " ".join(fragment for fragment in said if fragment).replace(" \n", "\n")
    return _filled(joined, rng)


def line(topic: str, rng: Random) -> str:
    """A short answer on one line."""
    return rng.choice(LINES.get(topic, _OTHER))


def _filled(sentence: str, rng: Random) -> str:
    """Replace each `{x}` by a filler, none twice in a text; `{x:u}` is capitalised."""
    used: set[str] = set()

    def fill(place: re.Match[str]) -> str:
        word = rng.choice([each for each in FILLERS[place[1]] if each not in used])
        used.add(word)
        return word[0].upper() + word[1:] if place[2] else word

    return _PLACE.sub(fill, sentence)

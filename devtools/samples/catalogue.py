"""Form templates in English and French, like those that real owners build.

A field is `{id, type, label, help, required, options, page, …}` (the spec's shape, the importer's types); `if` shows it
only where another field has a given answer. `answers` and `prose` choose their text by the id of a field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

JsonDict = dict[str, Any]


@dataclass(frozen=True)
class Template:
    """A form template.

    title      contains a placeholder for one of `subjects`
    weight     relative frequency with which the template is chosen
    minutes    a typical completion time
    """

    title: str
    subjects: Sequence[str]
    description: str
    fields: Sequence[JsonDict]
    weight: int = 10
    minutes: float = 3.0
    language: str = "en"


def ask(
    type: str, id: str, label: str, options: Sequence[Any] = (), *, help: str = "",
    required: bool = False, page: int = 1,
    **more: Any,
) -> JsonDict:  # fmt: skip
    """Declare a field. `when=("other_field", value)` becomes its condition."""
    when = more.pop("when", None)
    condition = {"if": {"field": when[0], "is": when[1]}} if when else {}
    shown = {"id": id, "type": type, "label": label, "help": help, "required": required, "options": list(options)}
    return {**shown, "page": page, **more, **condition}


def rows(**labels: str) -> list[JsonDict]:
    """The rows of a matrix or ranking."""
    return [{"id": id, "label": label} for id, label in labels.items()]


# Seasons of three months each, beginning with December.
SEASONS: Final = {"en": ("winter", "spring", "summer", "autumn"), "fr": ("hiver", "printemps", "été", "automne")}

AGREE = ("Strongly disagree", "Disagree", "Neutral", "Agree", "Strongly agree")
ACCORD = ("Pas du tout d'accord", "Plutôt pas d'accord", "Sans avis", "Plutôt d'accord", "Tout à fait d'accord")

TEMPLATES: Final = (
    Template(
        "Registration: {}",
        ("Open Data Day", "Coastal Design Summit", "Teachers' Forum", "Annual Members' Meeting", "Typography Weekend",
         "Community Garden Fair", "Rural Broadband Conference", "Night of Libraries", "Start-up Breakfast",
         "Choir Festival"),
        "Reserve your place. Lunch and coffee are included; you can change your registration until a week before.",
        [
            ask("text", "full_name", "Full name", required=True, help="As it should appear on your badge."),
            ask("email", "email", "Email address", required=True, help="Your ticket goes here."),
            ask("text", "company", "Company or organisation"),
            ask("single_choice", "ticket", "Ticket", ("Standard", "Student", "Speaker", "Online only"), required=True),
            ask("multiple_choice", "sessions", "Which sessions will you attend?",
                ("Opening keynote", "Accessibility workshop", "Panel: public money, public code", "Lightning talks",
                 "Closing drinks"), page=2, help="An estimate is enough; it helps us choose the rooms."),
            ask("single_choice", "diet", "Dietary requirements", ("None", "Vegetarian", "Vegan", "Gluten-free",
            "Other"),
                page=2),
            ask("text", "diet_other", "Please tell us more", page=2, required=True, when=("diet", "Other")),
            ask("datetime", "arrival", "When do you expect to arrive?", page=2),
            ask("long_text", "speaker_question", "A question for our speakers", page=2),
            ask("boolean", "photo_consent", "I agree to appear in photos of the event", page=2),
        ],
        weight=16, minutes=3.2,
    ),
    Template(
        "How likely are you to recommend {}?",
        ("Bluefern", "the Tidal app", "our support team", "Kestrel Rentals", "Orchard Box", "the Granite portal",
         "Brightwater Energy", "our onboarding", "Quill for Teams", "the Harbour Club"),
        "Two minutes, read by a person. Thank you for being honest.",
        [
            ask("rating", "recommend", "How likely are you to recommend us to a friend or colleague?", range(11),
                required=True, min=0, max=10, help="0 = not at all, 10 = extremely likely"),
            ask("long_text", "feedback_reason", "What is the main reason for your score?"),
            ask("multiple_choice", "improve", "What should we improve first?",
                ("Price", "Speed", "Ease of use", "Support", "Documentation", "Mobile app")),
            ask("single_choice", "usage", "How often do you use it?", ("Daily", "Weekly", "Monthly", "Less often")),
            ask("boolean", "may_contact", "May we contact you about your answer?"),
            ask("email", "email", "Your email address", required=True, when=("may_contact", True)),
        ],
        weight=22, minutes=1.4,
    ),
    Template(
        "Job application: {}",
        ("Backend engineer", "Museum guide", "Primary school teacher", "Data analyst", "Head gardener",
         "Paediatric nurse",
         "Product designer", "Bicycle mechanic", "Office manager", "Wind turbine technician", "Pastry chef"),
        "We read every application and answer within two weeks.",
        [
            ask("text", "full_name", "Full name", required=True),
            ask("email", "email", "Email address", required=True),
            ask("phone", "phone", "Phone number"),
            ask("text", "current_job", "Current position"),
            ask("integer", "experience_years", "Years of experience", required=True, min=0, max=45),
            ask("multiple_choice", "languages", "Languages you work in",
                ("English", "French", "German", "Spanish", "Arabic", "Mandarin"), page=2),
            ask("url", "portfolio", "Portfolio or profile", page=2, help="A link to work you are proud of."),
            ask("number", "salary", "Expected yearly salary", page=2, min=18_000, max=120_000, unit="EUR"),
            ask("date", "start_date", "Earliest start date", page=2, direction="future"),
            ask("long_text", "motivation", "Why would you like to work with us?", required=True, page=2),
            ask("boolean", "relocate", "I would be willing to relocate", page=2),
        ],
        weight=10, minutes=14,
    ),
    Template(
        "Support request: {}",
        ("web shop", "customer portal", "mobile app", "billing", "Wi-Fi on campus", "library catalogue",
         "print service",
         "ticket machines", "video platform", "payroll"),
        "Tell us what happened. Urgent requests are answered within the hour, around the clock.",
        [
            ask("email", "email", "Email address", required=True),
            ask("text", "subject", "Subject", required=True),
            ask("single_choice", "severity", "How badly does it affect you?",
                ("I can carry on", "It slows me down", "I cannot work"), required=True),
            ask("datetime", "happened_at", "When did it happen?"),
            ask("long_text", "issue", "What happened, and what did you expect?", required=True),
            ask("multiple_choice", "tried", "What have you tried already?",
                ("Signing out and in again", "Another browser", "Restarting", "Asking a colleague", "Nothing yet")),
            ask("phone", "phone", "Phone number", required=True, when=("severity", "I cannot work"),
                help="So that we can call you back at once."),
        ],
        weight=18, minutes=4.5,
    ),
    Template(
        "Course feedback: {}",
        ("Introduction to statistics", "Watercolour for beginners", "First aid at work", "Python in a week",
         "Bread and sourdough", "Public speaking", "Modern Greek, level 2", "Care of older people",
         "Project management"),
        "Anonymous. The results are discussed with the group in the last lesson.",
        [
            ask("rating", "stars", "Overall, how was the course?", range(1, 6), required=True, min=1, max=5),
            ask("matrix", "statements", "How far do you agree?", AGREE, rows=rows(
                clear="The explanations were clear", pace="The pace was right", material="The material was useful",
                respect="I felt at ease to ask")),
            ask("ranking", "formats", "Which formats help you most?", (1, 2, 3, 4), rows=rows(
                lecture="Lectures", exercises="Exercises", groups="Group work", videos="Videos"),
                help="1 = helps me most"),
            ask("long_text", "learned", "What will you take with you?", page=2),
            ask("long_text", "feedback_course", "What should we change?", page=2),
            ask("boolean", "again", "I would take another course here", page=2),
        ],
        weight=14, minutes=3.8,
    ),
    Template(
        "Bug report: {}",
        ("Tidal 4", "Quill editor", "the booking calendar", "Kestrel for Android", "the public API", "Harbour desktop",
         "the import wizard", "the reading room terminal"),
        "The more exactly you tell us, the sooner it is mended.",
        [
            ask("text", "bug_title", "Title", required=True),
            ask("text", "version", "Version", required=True, help="Shown under Help → About."),
            ask("single_choice", "platform", "Platform", ("Windows", "macOS", "Linux", "Android", "iOS", "Web")),
            ask("long_text", "bug_steps", "Steps to reproduce", required=True),
            ask("single_choice", "reproducible", "Does it happen every time?", ("Always", "Sometimes", "Only once")),
            ask("url", "page_url", "Address of the page", when=("platform", "Web")),
            ask("rating", "severity_rating", "How bad is it?", range(1, 6), min=1, max=5, help="5 = data was lost"),
            ask("email", "email", "Email address", help="If we may ask you back."),
        ],
        weight=12, minutes=6,
    ),
    Template(
        "Order form: {}",
        ("school T-shirts", "vegetable boxes", "holiday cards", "field recordings on vinyl", "seedlings",
         "choir scores",
         "office furniture", "honey from our roof", "calendar of the harbour"),
        "Orders are packed on Thursdays. Payment by invoice.",
        [
            ask("text", "full_name", "Full name", required=True),
            ask("email", "email", "Email address", required=True),
            ask("integer", "quantity", "Quantity", required=True, min=1, max=40),
            ask("single_choice", "size", "Size", ("Small", "Medium", "Large"), required=True),
            ask("single_choice", "delivery", "Delivery", ("Collect in person", "Post", "Courier"), required=True),
            ask("text", "address", "Delivery address", required=True, when=("delivery", "Post")),
            ask("date", "delivery_date", "Preferred date", direction="future"),
            ask("boolean", "gift", "This is a gift"),
            ask("text", "gift_message", "Message on the card", when=("gift", True)),
        ],
        weight=14, minutes=2.6,
    ),
    Template(
        "Newsletter: {}",
        ("Harbour notes", "What's on at the museum", "Release letter", "Neighbourhood weekly", "The long read",
         "Jobs in conservation", "Harvest diary"),
        "One letter, no tracking, one click to leave.",
        [
            ask("email", "email", "Email address", required=True),
            ask("text", "first_name", "First name"),
            ask("multiple_choice", "topics", "What would you like to read about?",
                ("New releases", "Behind the scenes", "Events", "Tutorials", "Interviews")),
            ask("single_choice", "frequency", "How often?", ("Weekly", "Monthly", "Only big news"), required=True),
            ask("boolean", "consent", "I would like to receive this newsletter", required=True),
        ],
        weight=18, minutes=0.6,
    ),
    Template(
        "Volunteer sign-up: {}",
        ("beach clean-up", "reading mentors", "food bank", "city marathon", "repair café", "animal shelter",
         "tree planting"),
        "Pick what suits you; nobody is asked to do more than they offered.",
        [
            ask("text", "full_name", "Full name", required=True),
            ask("email", "email", "Email address", required=True),
            ask("date", "birth_date", "Date of birth", direction="birth", help="Helpers under 16 come with an adult."),
            ask("multiple_choice", "shifts", "When could you help?",
                ("Saturday morning", "Saturday afternoon", "Sunday morning", "Sunday afternoon"), required=True),
            ask("single_choice", "shirt", "T-shirt size", ("S", "M", "L", "XL")),
            ask("boolean", "first_aid", "I have a first-aid certificate"),
            ask("date", "first_aid_until", "Valid until", direction="future", when=("first_aid", True)),
            ask("long_text", "volunteer_note", "Anything we should know?", page=2),
        ],
        weight=8, minutes=2.4,
    ),
    Template(
        "Fiche patient : {}",
        ("cabinet des Tilleuls", "kinésithérapie du Lac", "centre dentaire Nord", "consultation du voyage",
         "suivi de grossesse", "orthophonie", "médecine du sport"),
        "À remplir avant votre premier rendez-vous. Ces renseignements restent au cabinet.",
        [
            ask("text", "nom_complet", "Nom et prénom", required=True),
            ask("date", "date_naissance", "Date de naissance", required=True, direction="birth"),
            ask("phone", "telephone", "Téléphone", required=True),
            ask("single_choice", "motif", "Motif de la consultation",
                ("Première visite", "Suivi", "Urgence", "Certificat"), required=True),
            ask("multiple_choice", "symptomes", "Symptômes actuels",
                ("Fatigue", "Douleurs", "Fièvre", "Troubles du sommeil", "Vertiges", "Aucun"), page=2),
            ask("rating", "douleur", "Intensité de la douleur", range(11), page=2, min=0, max=10,
                help="0 = aucune, 10 = insupportable"),
            ask("boolean", "allergies", "Avez-vous des allergies ?", page=2, required=True),
            ask("text", "allergies_detail", "Lesquelles ?", page=2, required=True, when=("allergies", True)),
            ask("long_text", "traitement", "Traitements en cours", page=2, help="Nom, dose et fréquence si possible."),
            ask("number", "taille", "Taille", page=2, min=1.45, max=2.02, unit="m"),
        ],
        weight=10, minutes=6.5, language="fr",
    ),
    Template(
        "Votre avis : {}",
        ("la médiathèque", "notre boutique en ligne", "le restaurant d'entreprise", "les transports du soir",
         "l'accueil de la mairie", "le festival des docks", "votre séjour", "la crèche des Lilas"),
        "Trois minutes pour nous aider à faire mieux. Les réponses sont anonymes.",
        [
            ask("rating", "note_globale", "Votre satisfaction globale", range(1, 6), required=True, min=1, max=5),
            ask("matrix", "affirmations", "Êtes-vous d'accord ?", ACCORD, rows=rows(
                accueil="L'accueil est chaleureux", attente="L'attente est raisonnable", prix="Les prix sont justes",
                proprete="Les lieux sont propres")),
            ask("single_choice", "frequence", "À quelle fréquence venez-vous ?",
                ("Chaque semaine", "Chaque mois", "Quelques fois par an", "C'était la première fois")),
            ask("long_text", "commentaire", "Qu'est-ce qui vous a plu ou déplu ?", page=2),
            ask("integer", "age", "Votre âge", page=2, min=16, max=92),
            ask("boolean", "tirage", "Je participe au tirage au sort", page=2),
            ask("email", "courriel", "Adresse électronique", page=2, required=True, when=("tirage", True)),
        ],
        weight=18, minutes=2.8, language="fr",
    ),
    Template(
        "Serez-vous des nôtres ? {}",
        ("Mariage d'Inès et Paul", "Les 60 ans de Fatou", "Fête de l'école", "Pot de départ de Karim", "Crémaillère",
         "Banquet de l'association", "Baptême de Léo"),
        "Merci de répondre avant la fin du mois, pour que personne ne manque de dessert.",
        [
            ask("text", "nom_complet", "Votre nom", required=True),
            ask("single_choice", "presence", "Viendrez-vous ?", ("Oui", "Non", "Seulement pour le dessert"),
                required=True),
            ask("integer", "nombre", "Combien serez-vous ?", required=True, min=1, max=6, when=("presence", "Oui")),
            ask("multiple_choice", "repas", "Pour le repas", ("Viande", "Poisson", "Végétarien", "Menu enfant"),
                when=("presence", "Oui")),
            ask("text", "chanson", "Une chanson qui vous fera danser"),
            ask("long_text", "mot", "Un petit mot"),
        ],
        weight=12, minutes=1.5, language="fr",
    ),
    Template(
        "Demande de devis : {}",
        ("rénovation de toiture", "traduction", "jardin et terrasse", "déménagement", "panneaux solaires", "traiteur",
         "site vitrine", "ravalement"),
        "Réponse chiffrée sous trois jours ouvrés.",
        [
            ask("text", "nom_complet", "Nom", required=True),
            ask("email", "courriel", "Adresse électronique", required=True),
            ask("phone", "telephone", "Téléphone"),
            ask("single_choice", "client", "Vous êtes", ("Un particulier", "Une entreprise", "Une association"),
                required=True),
            ask("text", "societe", "Raison sociale", required=True, when=("client", "Une entreprise")),
            ask("number", "budget", "Budget envisagé", min=300, max=60_000, unit="EUR", page=2),
            ask("date", "echeance", "Date souhaitée", direction="future", page=2),
            ask("long_text", "projet", "Décrivez votre projet", required=True, page=2),
            ask("url", "exemple", "Un exemple qui vous plaît", page=2),
        ],
        weight=10, minutes=5, language="fr",
    ),
    Template(
        "Inscription : {}",
        ("atelier poterie", "colonie d'été", "cours du soir", "tournoi de pétanque", "chorale",
         "journée portes ouvertes",
         "stage de voile", "randonnée de nuit"),
        "Les places sont attribuées dans l'ordre d'arrivée.",
        [
            ask("text", "nom_complet", "Nom et prénom", required=True),
            ask("email", "courriel", "Adresse électronique", required=True),
            ask("date", "date_naissance", "Date de naissance", direction="birth", required=True),
            ask("single_choice", "niveau", "Niveau", ("Débutant", "Intermédiaire", "Confirmé"), required=True),
            ask("ranking", "creneaux", "Vos créneaux préférés", (1, 2, 3), rows=rows(
                mardi="Mardi soir", mercredi="Mercredi après-midi", samedi="Samedi matin"), help="1 = le préféré"),
            ask("boolean", "covoiturage", "Je propose des places en covoiturage", page=2),
            ask("integer", "places", "Nombre de places", min=1, max=4, page=2, required=True, when=("covoiturage",
            True)),
            ask("long_text", "mot", "Remarques", page=2),
        ],
        weight=12, minutes=2.9, language="fr",
    ),
)  # fmt: skip

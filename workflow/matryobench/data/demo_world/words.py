"""The words of the demo world, as text; `lexicon.py` reads it into concepts.

Written for this project; deliberately tidy (every form names exactly one concept), so that meaning, not a dictionary,
decides what two sentences share. `;` separates concepts, `,` the synonyms of one; the two sides of `|` are opposites; `~`
introduces converse verbs: "A led B" says the same as "B followed A".
"""

from __future__ import annotations

# class forms -> (members, usual places, usual things); plain text mentions what is usual more often.
ANIMATE_CLASSES = {
    "artisan, craftsman": (
        "baker, breadmaker; smith, ironworker; carpenter, joiner; tailor, dressmaker",
        "workshop market",
        "tool",
    ),
    "scholar, savant": (
        "teacher, schoolmaster; doctor, physician; writer, author; lawyer, attorney",
        "school church",
        "document",
    ),
    "traveller, wayfarer": (
        "sailor, mariner; merchant, trader; courier, messenger; pilgrim, palmer",
        "harbour bridge",
        "document garment",
    ),
    "fighter, armsbearer": (
        "soldier, trooper; constable, sheriff; watchman, sentry; archer, bowman",
        "castle bridge",
        "garment tool",
    ),
    "villager, peasant": (
        "farmer, ploughman; shepherd, herdsman; fisherman, angler; hunter, trapper",
        "forest market",
        "tool",
    ),
    "performer, entertainer": (
        "singer, vocalist; dancer, ballerina; actor, player; clown, jester",
        "castle market",
        "garment instrument",
    ),
    "rogue, scoundrel": (
        "thief, robber; smuggler, bootlegger; forger, counterfeiter; beggar, vagrant",
        "harbour forest",
        "treasure container",
    ),
    "noble, aristocrat": (
        "king, monarch; duchess, noblewoman; baron, lord; bishop, prelate",
        "castle church",
        "treasure",
    ),
}

# class forms -> members.
THING_CLASSES = {
    "tool, implement": "hammer, mallet; rope, cord; axe, hatchet; shovel, spade",
    "garment, clothing": "coat, jacket; hat, cap; cloak, mantle; scarf, shawl",
    "document, paper": "letter, missive; book, tome; map, chart; contract, agreement",
    "container, vessel": "box, crate; basket, hamper; jar, pitcher; barrel, cask",
    "instrument, noisemaker": "violin, fiddle; drum, tabor; harp, lyre; trumpet, bugle",
    "treasure, valuable": "coin, ducat; crown, diadem; jewel, gem; goblet, chalice",
}

# family -> opposites; deeds take (agent, patient), both animate.
DEEDS = {
    "speech": "praise, commend | scold, rebuke; forgive, pardon | blame, accuse; greet, salute | insult, mock",
    "aid": "help, assist | hinder, obstruct; rescue, save | abandon, desert; protect, defend | attack, assault",
    "feeling": "admire, respect | despise, scorn; trust, believe | doubt, suspect; calm, soothe | frighten, scare",
    "standing": "invite, summon | banish, expel; reward, honour | punish, chastise; hire, employ ~ serve, obey | sack, dismiss",
    "contest": "chase, pursue ~ flee, escape | avoid, evade; lead, guide ~ follow, trail | mislead, deceive",
}

# Handlings take (agent, thing).
HANDLINGS = {
    "condition": "repair, mend | break, damage; clean, wash | soil, stain",
    "making": "make, craft | destroy, wreck; keep, preserve | discard, dump",
    "moving": "hide, conceal | reveal, display; lift, raise | lower, drop",
}

# Transfers take (source, thing, goal): verbs of the source ("to" the goal) ~ verbs of the goal ("from" the source).
TRANSFERS = {
    "gift": "give, donate ~ receive, accept; leave, bequeath ~ inherit, obtain",
    "trade": "sell, peddle ~ buy, purchase; lend, loan ~ borrow",
}

ANIMATE_ATTRIBUTES = (
    "old, elderly | young, youthful; rich, wealthy | poor, needy; brave, bold | timid, fearful; "
    "happy, merry | sad, gloomy; clever, smart | foolish, silly; strong, sturdy | weak, frail; "
    "honest, truthful | lying, crooked; famous, renowned | unknown, obscure"
)
THING_ATTRIBUTES = (
    "large, big | small, tiny; new, unused | worn, shabby; costly, precious | cheap, inexpensive; "
    "pretty, lovely | ugly, hideous"
)

# group -> name: phrases; a group is what two places or two times have in common.
PLACES = {
    "town": "market: in the market, in the bazaar; school: at the school, in the classroom; "
    "church: in the church, in the chapel",
    "water": "harbour: at the harbour, on the docks; bridge: on the bridge, on the crossing",
    "land": "forest: in the forest, in the woods; castle: in the castle, in the fortress; "
    "workshop: in the workshop, in the forge",
}
TIMES = {
    "day": "dawn: at dawn, at sunrise; noon: at noon, at midday; dusk: at dusk, at sunset",
    "season": "winter: in winter, in frosty weather; summer: in summer, in hot weather; autumn: in autumn, at harvest",
}

# base: past, participle; all other verbs are regular.
IRREGULAR = (
    "break: broke, broken; buy: bought, bought; drop: dropped, dropped; expel: expelled, expelled; flee: fled, fled; "
    "forgive: forgave, forgiven; give: gave, given; hide: hid, hidden; keep: kept, kept; lead: led, led; leave: left, left; "
    "lend: lent, lent; make: made, made; mislead: misled, misled; sell: sold, sold"
)

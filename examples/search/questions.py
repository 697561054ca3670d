"""Questions about the handbook, and how the passages begin that answer them."""

EXPECTED: dict[str, str] = {
    "Where is the key?": "The key hangs in a steel box",
    "May I bring my dog?": "Dogs are not allowed at the station",
    "How long do the batteries last when there is neither sun nor wind?": "The battery bank holds twenty kilowatt-hours",
    "Which two appliances blow the power if used together?": "The kettle and the drill must never run",
    "The light on the inverter flashes red, why?": "A blinking red lamp on the inverter",
    "What do I do if the tap has frozen?": "To thaw a frozen tap",
    "How do I get drinking water in winter?": "In winter the pipe is drained",
    "There is a fire in the chimney!": "If the chimney catches fire",
    "Where can I get a mobile phone signal?": "Mobile telephones find a weak signal",
    "How is the amount of cloud estimated?": "Cloud cover is estimated in eighths",
    "How quickly must somebody under an avalanche be found?": "Somebody who is buried must be dug out",
    "first aid for a burn": "Cool a burn under running water",
    "How do I treat frozen fingers?": "Treat frostbite with water",
    "On which days do we bake?": "Bread is baked on Wednesdays and Saturdays",
    "Where should smokers go?": "Smoking is allowed only outside",
    "What does a night cost for visitors?": "Guests pay eleven pounds a night",
    "When are the birds counted?": "Ptarmigan are counted on the six plots",
    "Who mends the roof when a slate leaks?": "A leaking roof slate is replaced",
    "What is a steady red light on the inverter?": "A steady red lamp on the inverter means overload",
    "How far away from the eagles must I stay?": "The golden eagle nests on the crag",
    "I am standing in front of the rain gauge and it is full of snow. How do I find out how much water that is?": (
        "Melt snow that has fallen into the rain gauge"
    ),
    "Three of us woke up with a headache, feel sick and are very tired, although nobody drank anything yesterday and the stove "
    "burned all night. Should we worry, and what should we do first?": "Headache, nausea and tiredness of several people",
    "Our gas for cooking seems to be nearly used up, and the next flight is only in two weeks. There are six of us. For how "
    "many days is one full bottle of it enough?": "A full gas bottle lasts six people",
}
"""The passage that must come first."""

AMONG: dict[str, str] = {
    "At what hours must we report to the valley by radio?": "Call the valley office at eight in the morning",
    "How do I keep mice out?": "Mouse holes are stopped with steel wool",
    "What must I do before I go home on the last day?": "On the last morning strip the bunk",
}
"""The passage that must be among the answers; this small model does not rank it first."""

LONG = (
    "We came up with the helicopter yesterday, five of us, and since the evening the wind has been rising all the time. "
    "The gauge on the mast now shows gusts of more than ninety kilometres an hour, the hut creaks, and one of us says that the "
    "small wind turbine on the ridge can be torn off in a storm like this one, while another believes that it looks after "
    "itself. Nobody remembers what the last crew told us about it before they left. Is there anything that we ought to do with "
    "the turbine when the gusts are that strong, and is it done by hand or by a switch?"
)
"""A paragraph, for the long end of a profile; its answer is the passage that begins ``LONG_EXPECTED``."""

LONG_EXPECTED = "Brake the wind turbine by hand"

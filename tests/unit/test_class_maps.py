"""Objects365 → COCO: all 80 classes, no name twice, every name spelled as in the annotation files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowwatt.data.class_maps import read_class_map
from lowwatt.errors import ToolError

# The 365 names of zhiyuan_objv2_{train,val}.json by ascending id (1…365), mistakes included.
OBJECTS365 = """
Person|Sneakers|Chair|Other Shoes|Hat|Car|Lamp|Glasses|Bottle|Desk|Cup|Street Lights|Cabinet/shelf|Handbag/Satchel|
Bracelet|Plate|Picture/Frame|Helmet|Book|Gloves|Storage box|Boat|Leather Shoes|Flower|Bench|Potted Plant|Bowl/Basin|
Flag|Pillow|Boots|Vase|Microphone|Necklace|Ring|SUV|Wine Glass|Belt|Moniter/TV|Backpack|Umbrella|Traffic Light|
Speaker|Watch|Tie|Trash bin Can|Slippers|Bicycle|Stool|Barrel/bucket|Van|Couch|Sandals|Bakset|Drum|Pen/Pencil|Bus|
Wild Bird|High Heels|Motorcycle|Guitar|Carpet|Cell Phone|Bread|Camera|Canned|Truck|Traffic cone|Cymbal|Lifesaver|
Towel|Stuffed Toy|Candle|Sailboat|Laptop|Awning|Bed|Faucet|Tent|Horse|Mirror|Power outlet|Sink|Apple|
Air Conditioner|Knife|Hockey Stick|Paddle|Pickup Truck|Fork|Traffic Sign|Ballon|Tripod|Dog|Spoon|Clock|Pot|Cow|Cake|
Dinning Table|Sheep|Hanger|Blackboard/Whiteboard|Napkin|Other Fish|Orange/Tangerine|Toiletry|Keyboard|Tomato|
Lantern|Machinery Vehicle|Fan|Green Vegetables|Banana|Baseball Glove|Airplane|Mouse|Train|Pumpkin|Soccer|Skiboard|
Luggage|Nightstand|Tea pot|Telephone|Trolley|Head Phone|Sports Car|Stop Sign|Dessert|Scooter|Stroller|Crane|Remote|
Refrigerator|Oven|Lemon|Duck|Baseball Bat|Surveillance Camera|Cat|Jug|Broccoli|Piano|Pizza|Elephant|Skateboard|
Surfboard|Gun|Skating and Skiing shoes|Gas stove|Donut|Bow Tie|Carrot|Toilet|Kite|Strawberry|Other Balls|Shovel|
Pepper|Computer Box|Toilet Paper|Cleaning Products|Chopsticks|Microwave|Pigeon|Baseball|Cutting/chopping Board|
Coffee Table|Side Table|Scissors|Marker|Pie|Ladder|Snowboard|Cookies|Radiator|Fire Hydrant|Basketball|Zebra|Grape|
Giraffe|Potato|Sausage|Tricycle|Violin|Egg|Fire Extinguisher|Candy|Fire Truck|Billards|Converter|Bathtub|Wheelchair|
Golf Club|Briefcase|Cucumber|Cigar/Cigarette |Paint Brush|Pear|Heavy Truck|Hamburger|Extractor|Extention Cord|Tong|
Tennis Racket|Folder|American Football|earphone|Mask|Kettle|Tennis|Ship|Swing|Coffee Machine|Slide|Carriage|Onion|
Green beans|Projector|Frisbee|Washing Machine/Drying Machine|Chicken|Printer|Watermelon|Saxophone|Tissue|Toothbrush|
Ice cream|Hotair ballon|Cello|French Fries|Scale|Trophy|Cabbage|Hot dog|Blender|Peach|Rice|Wallet/Purse|Volleyball|
Deer|Goose|Tape|Tablet|Cosmetics|Trumpet|Pineapple|Golf Ball|Ambulance|Parking meter|Mango|Key|Hurdle|Fishing Rod|
Medal|Flute|Brush|Penguin|Megaphone|Corn|Lettuce|Garlic|Swan|Helicopter|Green Onion|Sandwich|Nuts|Speed Limit Sign|
Induction Cooker|Broom|Trombone|Plum|Rickshaw|Goldfish|Kiwi fruit|Router/modem|Poker Card|Toaster|Shrimp|Sushi|
Cheese|Notepaper|Cherry|Pliers|CD|Pasta|Hammer|Cue|Avocado|Hamimelon|Flask|Mushroon|Screwdriver|Soap|Recorder|Bear|
Eggplant|Board Eraser|Coconut|Tape Measur/ Ruler|Pig|Showerhead|Globe|Chips|Steak|Crosswalk Sign|Stapler|Campel|
Formula 1 |Pomegranate|Dishwasher|Crab|Hoverboard|Meat ball|Rice Cooker|Tuba|Calculator|Papaya|Antelope|Parrot|Seal|
Buttefly|Dumbbell|Donkey|Lion|Urinal|Dolphin|Electric Drill|Hair Dryer|Egg tart|Jellyfish|Treadmill|Lighter|
Grapefruit|Game board|Mop|Radish|Baozi|Target|French|Spring Rolls|Monkey|Rabbit|Pencil Case|Yak|Red Cabbage|
Binoculars|Asparagus|Barbell|Scallop|Noddles|Comb|Dumpling|Oyster|Table Teniis paddle|
Cosmetics Brush/Eyeliner Pencil|Chainsaw|Eraser|Lobster|Durian|Okra|Lipstick|Cosmetics Mirror|Curling|Table Tennis |
""".replace("\n", "").split("|")[:-1]  # fmt: skip

COCO = """
person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign parking_meter bench
bird cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase frisbee skis snowboard
sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork knife spoon
bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed dining_table
toilet tv laptop mouse remote keyboard cell_phone microwave oven toaster sink refrigerator book clock vase scissors
teddy_bear hair_drier toothbrush
""".replace("_", " ")


def test_the_map_covers_coco_in_its_order() -> None:
    labels = read_class_map("objects365-coco").labels
    assert len(labels) == 80
    assert " ".join(labels).split() == COCO.split()


def test_every_name_is_spelled_as_in_the_files_and_stands_once() -> None:
    assert len(OBJECTS365) == len(set(OBJECTS365)) == 365
    names = [name for row in read_class_map("objects365-coco").sources for name in row]
    assert [name for name in names if name not in OBJECTS365] == []
    assert len(names) == len(set(names)) >= 105


@pytest.mark.parametrize(
    ("name", "label"),
    [("Wild Bird", "bird"), ("Golf Ball", "sports ball"), ("Luggage", "suitcase"), ("moniter/tv ", "tv")],
)
def test_names_that_other_maps_miss(name: str, label: str) -> None:
    assert read_class_map("objects365-coco").target()[name.strip().casefold()] == label


@pytest.mark.parametrize("text", ["", "a", "[1]", "a: b", "a: []", "a: [1]", "a: [x]\nb: [X]", "a: [x", "a: [x, x]"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(ToolError):
        read_class_map(path)


def test_an_unknown_map_names_the_shipped_ones() -> None:
    with pytest.raises(ToolError) as error:
        read_class_map("objects365_coco")
    assert "objects365-coco" in error.value.hint

//! The built-in prompts. Long and short prompts alternate, so each part of a run has both.

pub(super) const TEXTS: [&str; 42] = [
    "What is the capital of Mongolia?",
    "Why is the sky blue? Answer in two sentences.",
    "Name five rivers that flow into the Black Sea.",
    "How many days are there between 3 March and 17 August?",
    "Write a haiku about a lighthouse in winter.",
    "Explain the difference between a virus and a bacterium to a ten-year-old.",
    "Summarise the following paragraph in two sentences.

The first lighthouses were open fires on hilltops, and later on towers, tended by people who lived beside them. Their light was weak and their fuel was dear, and in a storm, when they were needed most, they were the hardest to keep alive. The invention of the oil lamp with a round wick, and of mirrors behind it, made the light brighter, but most of it still went up into the sky or down onto the rocks. What changed the craft was a lens made of rings, each of which bends the light a little more than the one inside it, so that almost all of it leaves in one level beam. Such a lens is thin and light compared with a solid one of the same power, and it can be built in pieces. Within a few decades the coasts of Europe were marked so well that a captain could tell where he was from the rhythm of the flashes alone. Many of those lenses still turn today, although the lamp in the middle has become a small diode and nobody lives in the tower any more.",
    "What does HTTP status 429 mean, and what should a client do about it?",
    "Translate into French: The train leaves at seven, but the doors close two minutes earlier.",
    "Translate into German: I would rather be early and bored than late and sorry.",
    "Translate into Spanish: Could you tell me where the nearest pharmacy is?",
    "Translate into Japanese: Thank you for waiting. Your table is ready.",
    "Write a Python function that returns the n-th Fibonacci number without recursion.",
    "Read the report and list the three most likely causes, the most likely first.

On Tuesday at 14:05 the first customers told us that the search page took more than ten seconds to appear. The graphs show that the median had been normal, about 180 milliseconds, until 13:58, and that it rose within two minutes to 4 seconds, while the slowest one percent reached the limit of 30 seconds. The number of requests did not change. The processors of the search nodes were less busy than usual, and their memory was as always. The database showed many more open connections than on other days: 480 of 500, against 120. At 13:55 a new version of the recommendation service had been rolled out, which asks the same database for the last orders of each visitor. Its team reports no errors. At 14:31 that version was rolled back; the number of connections fell slowly, and at 14:50 the search page was as fast as before. Nobody changed anything in the search service on that day. A similar, shorter slowdown happened three weeks ago, at night, while a backup was running, and went away without any action.",
    "Write a SQL query that lists the three customers with the highest total order value.",
    "Write a regular expression that matches an ISO 8601 date, and explain each part.",
    "Write a shell command that finds the ten largest files below the current folder.",
    "What does this Rust expression return? (1..=10).filter(|n| n % 3 == 0).sum::<i32>()",
    "Find the mistake: for (int i = 0; i <= length; i++) { total += values[i]; }",
    "A farmer has 17 sheep and all but 9 run away. How many are left? Show your reasoning.",
    "Continue the story with one more paragraph in the same tone.

The clockmaker of our town never owned a watch. When people asked him why, he said that a baker does not eat bread all day either, and turned back to his work. His shop had one window, and in the window stood eleven clocks, none of which agreed with another. Strangers took that for a bad sign and went on to the next town. We knew better. Each clock showed the hour at which something had happened in the street: the red one the hour when the bridge was opened, the tall one when the flood had come, the small brass one when his daughter was born. The twelfth place was empty. Every child in the town had asked him what it was for, and every child had got a different answer. On the morning of which I want to tell, the twelfth clock stood in the window. It was plain and white, with no numbers on its face, and it was going. By noon half the town stood before the shop, and nobody dared to go in.",
    "If a train covers 240 km in 3 hours, how long does it need for 100 km at the same speed?",
    "What is 15% of 260, and how would you compute it in your head?",
    "Suggest three names for a small bakery next to a railway station.",
    "Give me a simple recipe for lentil soup with what most kitchens have.",
    "List the pros and cons of working from home, three of each.",
    "Is this sentence positive, negative or neutral? The hotel was clean, but the walls were thin.",
    "Decide whether the contract below may be ended in June, and quote the sentence that decides it.

This agreement begins on the first day of February and is made for a fixed term of twelve months. During the first six months neither party may end it without the written consent of the other. After that, either party may end it with notice of two months, given in writing, to the end of a calendar month. If the rent is raised by more than five percent within any period of twelve months, the tenant may end the agreement with notice of one month, whatever the term, provided that the notice is given within four weeks of the day on which the raise was announced. The landlord announced on the second day of April that the rent would rise by four percent from May, and on the twentieth day of May that the charge for heating, which is part of the rent, would rise so that the whole would be three percent higher again from July. The tenant gave notice in writing on the twenty-eighth day of May. Repairs up to one hundred euros a year are paid by the tenant; all others are paid by the landlord, unless the damage was caused through negligence.",
    "Extract the names and the dates as JSON: Ada met Grace on 4 May 1951 and Alan on 9 June 1951.",
    "Rewrite politely: Send me the report now, you are late again.",
    "Correct the grammar: Me and him has went to the shop yesterday for buy some breads.",
    "What is the difference between latency and throughput? Give an everyday example.",
    "Describe the water cycle in four steps.",
    "Who wrote One Hundred Years of Solitude, and what is it about?",
    "Turn these notes into minutes with decisions, open questions and tasks, each task with a name and a date.

Started ten past nine because the room was taken, Mira and Jonas remote, Petra on holiday. First the move to the new data centre: cables are in, two of the six racks have power, the other four wait for the electrician, who says the week after next. Jonas thinks we can move the test systems already, Mira would rather wait and move all at once, since each move costs a night. After some talk we agreed to move the test systems on the 14th, as a rehearsal, and to decide about the rest afterwards. Jonas writes the plan until Friday. Then the budget: we are eight percent over, mostly because of the storage we bought in spring. Ali asks whether the old storage can be sold, nobody knows, Mira asks the supplier, by the end of the month. No new purchases before that without a word to Ali. Last, the on-call rota: three people are too few in August. Somebody suggested asking the platform team, we did not decide, it is on the list for next week. Ali brings numbers on how often the phone rang in the last quarter. Closed at five to ten.",
    "Plan a weekend in Lisbon for two people who like walking and dislike crowds.",
    "Write a short birthday message for a colleague whom I do not know well.",
    "Explain what a mutex is, and when a channel is the better choice.",
    "Summarise the plot of Romeo and Juliet in exactly three sentences.",
    "What should I check before I buy a used bicycle?",
    "Turn this into a list: we need milk, two kinds of cheese, bread without seeds and some apples.",
    r#"Review the following function. Say what it does, name two defects, and show a corrected version.

def load_orders(path, since=None, cache={}):
    if path in cache:
        return cache[path]
    orders = []
    file = open(path)
    for line in file:
        parts = line.split(",")
        order = {"id": int(parts[0]), "customer": parts[1], "total": float(parts[2]), "day": parts[3]}
        if since and order["day"] < since:
            continue
        orders.append(order)
    cache[path] = orders
    return orders

It is called from a web handler, once for each request, with different values of since. The files are written by a nightly job, a few thousand lines each, and a day looks like 2024-05-17. Customers' names may contain commas, in which case the job puts them in double quotes. Lately two things have been reported. The first visitor of the morning decides which orders all later visitors of that day can see, whatever period they choose. And after some days the process stops with the message that there are too many open files, although only a handful of different files exist. The handler runs in several threads. Keep the function's name and parameters, since other teams call it, and use nothing outside the standard library."#,
];

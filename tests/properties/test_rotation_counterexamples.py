"""What the search found against earlier rules, kept as plain stories. Each failed once; each is why a line is there."""

from __future__ import annotations

from sessile.core import rotation
from sessile.core.events import ReplayDetected
from sessile.core.record import Record
from tests.properties.world import Client, World
from tests.support.requirements import requirement


def signed_in(**how: float) -> tuple[World, Client]:
    """Return a world in which Ada signed in a while ago, so that the next request rotates."""
    world, ada = World(**how), Client("ada")  # type: ignore[arg-type]
    world.sign_in(ada)
    world.advance(901.0)
    return world, ada


def copied(ada: Client) -> Client:
    """Return a thief who has copied Ada's jar."""
    return Client("thief", ada.jar, [ada.jar or ""])


@requirement("R29", "R31")
def test_overtaking_successors_of_slow_writes_end_no_honest_session() -> None:
    """Two answers that came after the window, and overtook each other, made the newest cookie look left behind."""
    world, ada = signed_in()
    world.send(ada, dropped=True)
    world.advance(1.0)
    world.send(ada, handler=0.01)
    world.send(ada, action="write", handler=29.0, down=2.0)
    world.send(ada, action="write", handler=29.5, down=1.8)
    world.advance(0.05)
    world.send(ada)
    world.advance(31.05)
    world.send(ada, up=5.0)  # with what the first late answer has set, if it sets anything
    world.advance(0.4)
    world.send(ada, up=0.1)  # with what the second one has set; it overtakes the other
    world.settle()
    world.advance(31.0)
    assert world.ask(ada)


@requirement("R30")
def test_a_thief_who_comes_once_between_rotation_and_its_confirmation_cannot_ride_along() -> None:
    """A successor that was kept back is refused once another line has moved on, or one request a rotation would do."""
    world, ada = signed_in()
    thief = copied(ada)
    world.ask(ada, down=0.1)
    world.ask(thief)  # nobody has used the new generation: the thief gets a sibling too
    for _ in range(4):
        assert thief.jar != ada.jar
        world.ask(ada)  # confirms
        world.advance(901.0)
        world.ask(ada)  # begins the next generation; Ada reads the page for a while
        world.advance(5.0)
        if not world.ask(thief):
            break
        world.advance(5.0)
    world.ask(ada)
    assert world.generation(ada) == -1, "the thief came along for four rotations"
    assert any(isinstance(event, ReplayDetected) for event in world.events)


@requirement("R31")
def test_a_storm_of_more_parallel_requests_than_are_noted_ends_no_session() -> None:
    """Two hundred parallel answers make two hundred siblings; any may be used at once, one stays in the jar."""
    world, ada = signed_in()
    for index in range(200):
        world.send(ada, handler=index / 1000, down=1.0)
    for _ in range(200):
        world.advance(1.2 / 200)
        world.send(ada, up=0.3)
    world.settle()
    found = world.held(world.id_of(ada))
    assert isinstance(found, Record)
    assert len(found.control.line.candidates) == rotation.MAX_CANDIDATES
    world.advance(31.0)
    assert world.ask(ada)
    assert all(one.alive for one in world.served)


@requirement("R30")
def test_an_unsettled_generation_is_not_rotated_so_a_thief_gains_no_further_one() -> None:
    """A slow request that was loaded in the window must not begin the next generation for both."""
    world, ada = signed_in()
    thief = copied(ada)
    world.ask(ada)
    world.ask(thief)
    world.advance(880.0)  # nobody uses the new generation until it is nearly due again
    world.send(ada)
    world.send(thief)
    world.advance(0.2)
    world.send(ada, handler=29.95)
    world.send(thief, handler=29.95)
    world.advance(30.2)
    assert world.generation(ada) == 1
    world.settle()
    world.advance(30.0)
    world.ask(ada)
    world.advance(30.1)
    world.ask(thief)
    world.ask(ada)
    assert world.generation(ada) == -1


@requirement("R31")
def test_a_slow_request_with_a_branch_that_the_browser_left_does_not_begin_a_generation() -> None:
    """The browser's newer branch would not have been seen by then, and would look like one that was kept back."""
    world, ada = signed_in()
    world.send(ada, dropped=True)
    world.advance(880.0)
    world.send(ada, down=0.1)
    world.send(ada, handler=0.1, down=2.0)  # its sibling arrives later
    world.advance(0.15)
    world.send(ada)  # carries the first sibling, and confirms
    world.send(ada, up=0.1, handler=29.95, dropped=True)  # commits just after the window
    world.settle()
    assert world.ask(ada), "the second sibling had not been seen"
    assert all(one.alive for one in world.served)

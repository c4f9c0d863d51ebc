"""A ROS 2 node that follows one target in a camera's topic. UNTESTED: not run on ROS yet.

    python relo_tracker_node.py --ros-args -p bundle:=/opt/relo-t256 -r image:=/camera/image_raw

Publishes `vision_msgs/Detection2D` on `track`. A `geometry_msgs/Polygon` on `start`, with two
opposite corners of the box in pixels, starts a target in the next image.
"""

import numpy as np
import rclpy
from geometry_msgs.msg import Polygon
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, ObjectHypothesisWithPose

from relo_edge import ReloError, Tracker, open_runtime

CHANNELS = {"bgr8": "bgr", "rgb8": "rgb"}


class TrackerNode(Node):
    """Images in, boxes out; late images are dropped by the sensor profile, as cameras do."""

    def __init__(self) -> None:
        super().__init__("relo_tracker")
        bundle = self.declare_parameter("bundle", "demo").value
        self._runtime = open_runtime(bundle)
        self._tracker: Tracker | None = None
        self._start: tuple[float, float, float, float] | None = None
        self._boxes = self.create_publisher(Detection2D, "track", 10)
        self.create_subscription(Polygon, "start", self._note_start, 1)
        self.create_subscription(Image, "image", self._track, qos_profile_sensor_data)

    def _note_start(self, corners: Polygon) -> None:
        xs, ys = [p.x for p in corners.points], [p.y for p in corners.points]
        if xs:
            self._start = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))

    def _track(self, message: Image) -> None:
        if not self._start and not self._tracker:
            return
        try:
            color = CHANNELS[message.encoding]
            rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
            frame = rows[:, : 3 * message.width].reshape(message.height, message.width, 3)
            if self._start:
                self._tracker = Tracker(self._runtime, color=color)
                self._tracker.init(frame, self._start)
                self._start = None
            elif self._tracker:
                self._publish(message, self._tracker.update(frame))
        except KeyError:
            self.get_logger().error(f"encoding {message.encoding}: expected {' | '.join(CHANNELS)}")
            self._tracker = self._start = None
        except ReloError as error:
            self.get_logger().error(f"{error}")
            self._tracker = self._start = None

    def _publish(self, message: Image, track) -> None:
        x, y, width, height = track.box
        found = Detection2D(header=message.header)
        found.bbox.center.position.x, found.bbox.center.position.y = x + width / 2, y + height / 2
        found.bbox.size_x, found.bbox.size_y = width, height
        guess = ObjectHypothesisWithPose()
        guess.hypothesis.class_id = "lost" if track.lost else "target"
        guess.hypothesis.score = track.confidence
        found.results.append(guess)
        self._boxes.publish(found)


if __name__ == "__main__":
    rclpy.init()
    rclpy.spin(TrackerNode())
